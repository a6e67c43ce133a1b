/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor, third part: the module file, and whether libcrypto really activates it. The module is only
 * ever loaded in a child: it may be broken, and it brings code of its own. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/store.h>

#include "doctor.h"

/* As libcrypto: an absolute path, else below OPENSSL_MODULES or MODULESDIR; no `module` means NAME.so. */
static void module_path(struct doctor *d, const char *name)
{
    const char *module = (d->facts & HAVE_SECTION) ? doctor_get(d, d->section, "module") : NULL;
    const char *dir = secure_getenv("OPENSSL_MODULES");

    if (dir == NULL)
        dir = OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
    if (module != NULL && module[0] == '/')
        snprintf(d->module, sizeof(d->module), "%s", module);
    else if (module != NULL)
        snprintf(d->module, sizeof(d->module), "%s/%s", dir, module);
    else
        snprintf(d->module, sizeof(d->module), "%s/%s.so", dir, name);
}

void check_module(struct doctor *d)
{
    struct stat sb;

    module_path(d, d->name != NULL ? d->name : "hsm");
    if (stat(d->module, &sb) != 0) {
        doctor_say(d, VERDICT_FAIL,
                   errno == ENOENT ? "install hsm.so there, or set `module = /path/hsm.so`"
                                   : "check the permissions on the way to it",
                   "module %s cannot be found: %s", d->module, strerror(errno));
        return;
    }
    if (!S_ISREG(sb.st_mode)) {
        doctor_say(d, VERDICT_FAIL, "name the file hsm.so", "module %s is not a regular file", d->module);
        return;
    }
    d->facts |= HAVE_MODULE;
    if ((sb.st_mode & S_IWOTH) != 0)
        doctor_say(d, VERDICT_FAIL, "chmod o-w the file", "module %s can be written by everybody", d->module);
    else if ((sb.st_mode & S_IROTH) == 0)
        doctor_say(d, VERDICT_FAIL, "chmod 0644 the file",
                   "module %s cannot be read by other users (mode %04o)", d->module,
                   (unsigned)(sb.st_mode & 07777));
    else
        doctor_say(d, VERDICT_OK, NULL, "module is %s", d->module);
}

struct libcryptos {
    char name[2][256];
    int count;
};

static int note_libcrypto(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct libcryptos *seen = arg;
    const char *base = strrchr(info->dlpi_name, '/');

    (void)size;
    base = base != NULL ? base + 1 : info->dlpi_name;
    if (strncmp(base, "libcrypto.so", 12) == 0 && seen->count < 2)
        snprintf(seen->name[seen->count++], sizeof(seen->name[0]), "%.255s", base);
    return 0;
}

static void load_module(struct doctor *d)
{
    void *handle = dlopen(d->module, RTLD_NOW | RTLD_LOCAL);
    struct libcryptos seen = { .count = 0 };

    if (handle == NULL) {
        doctor_say(d, VERDICT_FAIL, "install what it needs, or a module built for this machine",
                   "cannot be loaded: %s", dlerror());
        return;
    }
    dl_iterate_phdr(note_libcrypto, &seen);
    if (dlsym(handle, "OSSL_provider_init") == NULL)
        doctor_say(d, VERDICT_FAIL, "name the file hsm.so", "%s is no provider: it has no OSSL_provider_init",
                   d->module);
    else if (seen.count > 1)
        doctor_say(d, VERDICT_FAIL, "build the module for the libcrypto of this system",
                   "the module brings a libcrypto of its own: %s beside %s", seen.name[1], seen.name[0]);
    else
        doctor_say(d, VERDICT_OK, NULL, "the module loads");
}

void check_module_load(struct doctor *d)
{
    doctor_in_child(d, load_module);
}

/* ---- in a fresh library context ----------------------------------------------------------------------- */

struct search {
    const char *name;
    OSSL_PROVIDER *found;
};

static int note_provider(OSSL_PROVIDER *provider, void *arg)
{
    struct search *search = arg;

    if (strcmp(OSSL_PROVIDER_get0_name(provider), search->name) == 0)
        search->found = provider;
    return 1;
}

static void judge_provider(struct doctor *d, OSSL_LIB_CTX *ctx, const char *name)
{
    struct search search = { .name = name };
    const char *version = NULL;
    int running = 1;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_VERSION, (char **)&version, 0),
                            OSSL_PARAM_construct_int(OSSL_PROV_PARAM_STATUS, &running),
                            OSSL_PARAM_construct_end() };

    OSSL_PROVIDER_do_all(ctx, note_provider, &search);
    if (search.found != NULL)
        (void)OSSL_PROVIDER_get_params(search.found, params);
    if (running != 1)
        doctor_say(d, VERDICT_FAIL, "see the results on keys and tokens",
                   "%s is activated, but says it cannot work", name);
    else if (version != NULL && strcmp(version, HSM_VERSION) != 0)
        doctor_say(d, VERDICT_WARN, "install both from one release", "%s %s is activated, but hsmctl is %s",
                   name, version, HSM_VERSION);
    else
        doctor_say(d, VERDICT_OK, NULL, "libcrypto activates %s %s", name, version != NULL ? version : "");
}

/* Programs get no more than silence; asked directly, libcrypto says why. */
static void explain_inactive(struct doctor *d, OSSL_LIB_CTX *ctx, const char *name)
{
    char reason[256];
    OSSL_PROVIDER *provider;

    ERR_clear_error();
    provider = OSSL_PROVIDER_load(ctx, name);
    if (provider != NULL)
        doctor_say(d, VERDICT_FAIL, "see the results above: what is missing is its activation",
                   "the configuration does not activate %s, though it can be loaded by name", name);
    else
        doctor_say(d, VERDICT_FAIL, "see the results above", "libcrypto does not activate %s: %s", name,
                   doctor_openssl_error(reason, sizeof(reason)));
    OSSL_PROVIDER_unload(provider);
}

static void judge_scheme(struct doctor *d, OSSL_LIB_CTX *ctx, const char *name, const char *scheme)
{
    OSSL_STORE_LOADER *loader = OSSL_STORE_LOADER_fetch(ctx, scheme, NULL);
    const char *owner =
        loader != NULL ? OSSL_PROVIDER_get0_name(OSSL_STORE_LOADER_get0_provider(loader)) : NULL;

    ERR_clear_error();
    if (owner == NULL)
        doctor_say(d, VERDICT_WARN, "install the module of this release", "nobody answers %s: URIs", scheme);
    else if (strcmp(owner, name) != 0)
        doctor_say(d, VERDICT_FAIL, "remove that provider, list it after this one, or remove alias-scheme",
                   "%s: URIs are answered by provider %s", scheme, owner);
    else
        doctor_say(d, VERDICT_OK, NULL, "%s: URIs are answered by %s", scheme, owner);
    OSSL_STORE_LOADER_free(loader);
}

/* If a named generator cannot be fetched, libcrypto silently uses the operating system's. */
static void judge_generator(struct doctor *d, OSSL_LIB_CTX *ctx, const char *section, const char *key,
                            const char *properties_key)
{
    const char *name = doctor_get(d, section, key), *properties = doctor_get(d, section, properties_key);
    EVP_RAND *rand;

    if (name == NULL)
        return;
    rand = EVP_RAND_fetch(ctx, name, properties);
    ERR_clear_error();
    if (rand != NULL)
        doctor_say(d, VERDICT_OK, NULL, "[%s] %s = %s is offered by provider %s", section, key, name,
                   OSSL_PROVIDER_get0_name(EVP_RAND_get0_provider(rand)));
    else if (strncmp(name, "HSM-", 4) == 0)
        doctor_say(d, VERDICT_FAIL,
                   "remove it: this release of hsm offers no random generator or seed source",
                   "[%s] %s = %s is not offered; libcrypto silently uses the operating system's", section,
                   key, name);
    else
        doctor_say(d, VERDICT_FAIL, "correct the name, or activate the provider that has it",
                   "[%s] %s = %s is offered by no active provider; libcrypto silently uses another", section,
                   key, name);
    EVP_RAND_free(rand);
}

static void judge_random(struct doctor *d, OSSL_LIB_CTX *ctx)
{
    const char *section = (d->facts & HAVE_INIT) ? doctor_get(d, d->init, "random") : NULL;

    if (section == NULL || NCONF_get_section(d->conf, section) == NULL)
        return;
    d->check = "random";
    judge_generator(d, ctx, section, "random", "properties");
    judge_generator(d, ctx, section, "seed", "seed_properties");
}

static void judge_schemes(struct doctor *d, OSSL_LIB_CTX *ctx, const char *name)
{
    const char *alias = (d->facts & HAVE_SECTION) ? doctor_get(d, d->section, "alias-scheme") : NULL;

    d->check = "uri-scheme";
    judge_scheme(d, ctx, name, "hsm");
    if (alias != NULL)
        judge_scheme(d, ctx, name, alias);
}

/* What an unmodified program does at start-up, in a context of its own. */
static void activate(struct doctor *d)
{
    const char *name = d->name != NULL ? d->name : "hsm";
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
    char reason[256];

    setenv("OPENSSL_CONF", d->path, 1);
    ERR_clear_error();
    if (ctx == NULL || OSSL_LIB_CTX_load_config(ctx, d->path) != 1)
        doctor_say(d, VERDICT_FAIL, "see the results above; most programs go on without a word",
                   "libcrypto cannot carry out the configuration: %s",
                   doctor_openssl_error(reason, sizeof(reason)));
    if (ctx == NULL)
        return;
    if (OSSL_PROVIDER_available(ctx, name) == 1)
        judge_provider(d, ctx, name);
    else
        explain_inactive(d, ctx, name);
    if (OSSL_PROVIDER_available(ctx, "default") != 1)
        doctor_say(d, VERDICT_FAIL, "activate default beside it", "the default provider is not active");
    judge_random(d, ctx);
    if (OSSL_PROVIDER_available(ctx, name) == 1)
        judge_schemes(d, ctx, name);
}

void check_activation(struct doctor *d)
{
    doctor_in_child(d, activate);
}
