/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables the module hands out, read without a libcrypto in between. libcrypto discards a whole table when
 * a pair is broken, and says something else or crashes; the rules below are those of 3.0 to 3.3 and of 3.4
 * and later.
 */
#include <check.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "hsm/error.h"

/* core_dispatch.h of 3.4 */
enum {
    SIGN_MESSAGE_INIT = 27,
    SIGN_MESSAGE_UPDATE = 28,
    SIGN_MESSAGE_FINAL = 29,
    VERIFY_MESSAGE_INIT = 30,
    VERIFY_MESSAGE_UPDATE = 31,
    VERIFY_MESSAGE_FINAL = 32
};
enum { V3_0 = 0x030000, V3_4 = 0x030400 };

/* ---- the rules ----------------------------------------------------------------------------------------- */

static bool has(const OSSL_DISPATCH *fns, int id)
{
    for (; fns->function_id != 0; fns++)
        if (fns->function_id == id && fns->function != NULL)
            return true;
    return false;
}

static bool pair(const OSSL_DISPATCH *fns, int a, int b)
{
    return has(fns, a) == has(fns, b);
}

static const char *keymgmt_fault(const OSSL_DISPATCH *f)
{
    if (!has(f, OSSL_FUNC_KEYMGMT_FREE) || !has(f, OSSL_FUNC_KEYMGMT_HAS))
        return "free and has";
    if (!has(f, OSSL_FUNC_KEYMGMT_NEW) && !has(f, OSSL_FUNC_KEYMGMT_GEN) && !has(f, OSSL_FUNC_KEYMGMT_LOAD))
        return "a constructor";
    if (!has(f, OSSL_FUNC_KEYMGMT_LOAD)) /* decoder and store would call export_object, which we have not */
        return "load";
    if (!pair(f, OSSL_FUNC_KEYMGMT_GET_PARAMS, OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS))
        return "get_params pair";
    if (!pair(f, OSSL_FUNC_KEYMGMT_SET_PARAMS, OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS))
        return "set_params pair";
    if (!pair(f, OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS))
        return "gen_set_params pair";
    if (!pair(f, OSSL_FUNC_KEYMGMT_IMPORT, OSSL_FUNC_KEYMGMT_IMPORT_TYPES))
        return "import pair";
    if (!pair(f, OSSL_FUNC_KEYMGMT_EXPORT, OSSL_FUNC_KEYMGMT_EXPORT_TYPES))
        return "export pair";
    if (has(f, OSSL_FUNC_KEYMGMT_GEN) &&
        (!has(f, OSSL_FUNC_KEYMGMT_GEN_INIT) || !has(f, OSSL_FUNC_KEYMGMT_GEN_CLEANUP)))
        return "gen with init and cleanup";
    return NULL;
}

static const char *signature_common_fault(const OSSL_DISPATCH *f)
{
    if (!has(f, OSSL_FUNC_SIGNATURE_NEWCTX) || !has(f, OSSL_FUNC_SIGNATURE_FREECTX))
        return "newctx and freectx";
    if (!pair(f, OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS))
        return "get_ctx_params pair";
    if (!pair(f, OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS))
        return "set_ctx_params pair";
    if (!pair(f, OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS, OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS))
        return "get_ctx_md_params pair";
    if (!pair(f, OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS))
        return "set_ctx_md_params pair";
    return NULL;
}

static const char *signature_digest_fault(const OSSL_DISPATCH *f)
{
    bool sign = has(f, OSSL_FUNC_SIGNATURE_DIGEST_SIGN),
         update = has(f, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE);
    bool verify = has(f, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY),
         vupdate = has(f, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE);

    if (!pair(f, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL))
        return "digest_sign_update and _final";
    if (!pair(f, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL))
        return "digest_verify_update and _final";
    if ((sign || update) != has(f, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT))
        return "digest_sign with its init";
    if ((verify || vupdate) != has(f, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT))
        return "digest_verify with its init";
    return NULL;
}

/* 3.0 to 3.3: crypto/evp/signature.c, evp_signature_from_algorithm() */
static const char *signature_old_fault(const OSSL_DISPATCH *f)
{
    if (!pair(f, OSSL_FUNC_SIGNATURE_SIGN_INIT, OSSL_FUNC_SIGNATURE_SIGN))
        return "sign_init and sign";
    if (!pair(f, OSSL_FUNC_SIGNATURE_VERIFY_INIT, OSSL_FUNC_SIGNATURE_VERIFY))
        return "verify_init and verify";
    if (!pair(f, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER))
        return "verify_recover_init and verify_recover";
    return NULL;
}

/* 3.4 on: the message functions come in, and one-shot and streaming can stand for each other */
static const char *signature_new_fault(const OSSL_DISPATCH *f)
{
    bool sign = has(f, OSSL_FUNC_SIGNATURE_SIGN), init = has(f, OSSL_FUNC_SIGNATURE_SIGN_INIT);
    bool verify = has(f, OSSL_FUNC_SIGNATURE_VERIFY), vinit = has(f, OSSL_FUNC_SIGNATURE_VERIFY_INIT);
    bool stream = has(f, SIGN_MESSAGE_UPDATE) && has(f, SIGN_MESSAGE_FINAL);
    bool vstream = has(f, VERIFY_MESSAGE_UPDATE) && has(f, VERIFY_MESSAGE_FINAL);

    if ((init && !sign) || (has(f, SIGN_MESSAGE_INIT) && !sign && !stream))
        return "a signing function";
    if ((sign || has(f, SIGN_MESSAGE_UPDATE) || has(f, SIGN_MESSAGE_FINAL)) && !init &&
        !has(f, SIGN_MESSAGE_INIT))
        return "sign_init or sign_message_init";
    if ((vinit && !verify) || (has(f, VERIFY_MESSAGE_INIT) && !verify && !vstream))
        return "a verifying function";
    if ((verify || has(f, VERIFY_MESSAGE_UPDATE) || has(f, VERIFY_MESSAGE_FINAL)) && !vinit &&
        !has(f, VERIFY_MESSAGE_INIT))
        return "verify_init or verify_message_init";
    if (has(f, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT) && !has(f, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER))
        return "verify_recover";
    return NULL;
}

static const char *signature_fault(const OSSL_DISPATCH *f, unsigned version)
{
    const char *fault = signature_common_fault(f);

    if (fault == NULL)
        fault = signature_digest_fault(f);
    if (fault == NULL)
        fault = version < V3_4 ? signature_old_fault(f) : signature_new_fault(f);
    return fault;
}

static const char *store_fault(const OSSL_DISPATCH *f)
{
    if (!has(f, OSSL_FUNC_STORE_OPEN) && !has(f, OSSL_FUNC_STORE_ATTACH))
        return "open or attach";
    if (!has(f, OSSL_FUNC_STORE_LOAD) || !has(f, OSSL_FUNC_STORE_EOF) || !has(f, OSSL_FUNC_STORE_CLOSE))
        return "load, eof and close";
    return NULL;
}

static const char *decoder_fault(const OSSL_DISPATCH *f)
{
    if (!pair(f, OSSL_FUNC_DECODER_NEWCTX, OSSL_FUNC_DECODER_FREECTX) || !has(f, OSSL_FUNC_DECODER_DECODE))
        return "newctx with freectx, and decode";
    return NULL;
}

static const char *encoder_fault(const OSSL_DISPATCH *f)
{
    if (!pair(f, OSSL_FUNC_ENCODER_NEWCTX, OSSL_FUNC_ENCODER_FREECTX) || !has(f, OSSL_FUNC_ENCODER_ENCODE))
        return "newctx with freectx, and encode";
    if (!pair(f, OSSL_FUNC_ENCODER_IMPORT_OBJECT, OSSL_FUNC_ENCODER_FREE_OBJECT))
        return "import_object with free_object";
    return NULL;
}

static const char *fault_of(int operation, const OSSL_DISPATCH *f, unsigned version)
{
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmt_fault(f);
    case OSSL_OP_SIGNATURE:
        return signature_fault(f, version);
    case OSSL_OP_STORE:
        return store_fault(f);
    case OSSL_OP_DECODER:
        return decoder_fault(f);
    case OSSL_OP_ENCODER:
        return encoder_fault(f);
    default:
        return "an operation without rules here";
    }
}

/* ---- the module, with a core made of cardboard --------------------------------------------------------- */

static const char *core_answers[8][2]; /* name and value of what core_get_params knows */

static int fake_get_params(const OSSL_CORE_HANDLE *handle, OSSL_PARAM params[])
{
    size_t i;

    for (; params->key != NULL; params++)
        for (i = 0; i < 8 && core_answers[i][0] != NULL; i++)
            if (strcmp(core_answers[i][0], params->key) == 0)
                (void)OSSL_PARAM_set_utf8_ptr(params, core_answers[i][1]);
    return 1;
}

static unsigned raised_reason;
static char raised_text[600];

static void fake_new_error(const OSSL_CORE_HANDLE *handle)
{
}

__attribute__((format(printf, 3, 0))) static void fake_vset_error(const OSSL_CORE_HANDLE *handle,
                                                                  uint32_t reason, const char *fmt,
                                                                  va_list args)
{
    raised_reason = reason;
    (void)vsnprintf(raised_text, sizeof(raised_text), fmt, args);
}

static const OSSL_DISPATCH full_core[] = { { OSSL_FUNC_CORE_GET_PARAMS, (void (*)(void))fake_get_params },
                                           { OSSL_FUNC_CORE_NEW_ERROR, (void (*)(void))fake_new_error },
                                           { OSSL_FUNC_CORE_VSET_ERROR, (void (*)(void))fake_vset_error },
                                           { 4711, (void (*)(void))fake_new_error },
                                           { 0, NULL } };
static const OSSL_DISPATCH empty_core[] = { { 0, NULL } };

struct instance {
    void *provctx;
    const OSSL_DISPATCH *fns;
};

static void *module;

static void open_module(void)
{
    char path[512];

    memset(core_answers, 0, sizeof(core_answers));
    raised_reason = 0;
    (void)setenv("OPENSSL_CONF", "/dev/null", 1);
    (void)unsetenv("HSM_TOKEN");
    ck_assert_ptr_nonnull(getenv("HSM_MODULE_DIR"));
    (void)snprintf(path, sizeof(path), "%s/hsm.so", getenv("HSM_MODULE_DIR"));
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(module != NULL, "%s", dlerror());
}

static struct instance start(const OSSL_DISPATCH *core)
{
    OSSL_provider_init_fn *init;
    struct instance in = { NULL, NULL };

    *(void **)&init = dlsym(module, "OSSL_provider_init");
    ck_assert_ptr_nonnull(init);
    ck_assert_int_eq(init((const OSSL_CORE_HANDLE *)&in, core, &in.fns, &in.provctx), 1);
    return in;
}

static void (*function(const struct instance *in, int id))(void)
{
    const OSSL_DISPATCH *f;

    for (f = in->fns; f->function_id != 0; f++)
        if (f->function_id == id)
            return f->function;
    ck_abort_msg("no provider function %d", id);
    return NULL;
}

static void stop(struct instance *in)
{
    ((OSSL_FUNC_provider_teardown_fn *)function(in, OSSL_FUNC_PROVIDER_TEARDOWN))(in->provctx);
}

static const OSSL_ALGORITHM *query(struct instance *in, int operation)
{
    int no_cache = -1;
    const OSSL_ALGORITHM *table = ((OSSL_FUNC_provider_query_operation_fn *)function(
        in, OSSL_FUNC_PROVIDER_QUERY_OPERATION))(in->provctx, operation, &no_cache);

    ck_assert_int_eq(no_cache, 0); /* the answer must not depend on when it is asked for */
    return table;
}

static const int operations[] = { OSSL_OP_KEYMGMT, OSSL_OP_SIGNATURE, OSSL_OP_STORE, OSSL_OP_DECODER,
                                  OSSL_OP_ENCODER };
enum { OPERATION_COUNT = sizeof(operations) / sizeof(operations[0]) };

START_TEST(every_table_obeys_the_pair_rules)
{
    struct instance in = start(full_core);
    const OSSL_ALGORITHM *a = query(&in, operations[_i]);
    size_t count = 0;

    ck_assert_ptr_nonnull(a);
    for (; a->algorithm_names != NULL; a++, count++) {
        const char *old = fault_of(operations[_i], a->implementation, V3_0);
        const char *new = fault_of(operations[_i], a->implementation, V3_4);

        ck_assert_msg(old == NULL, "%s on 3.0: %s", a->algorithm_names, old);
        ck_assert_msg(new == NULL, "%s on 3.4: %s", a->algorithm_names, new);
    }
    ck_assert_uint_gt(count, 0);
    stop(&in);
}
END_TEST

static const char *fault_without(int operation, const OSSL_DISPATCH *table, int id, unsigned version)
{
    OSSL_DISPATCH copy[64];
    size_t n = 0;

    for (; table->function_id != 0; table++)
        if (table->function_id != id)
            copy[n++] = *table;
    copy[n] = (OSSL_DISPATCH){ 0, NULL };
    return fault_of(operation, copy, version);
}

/* The checker itself: one function less is noticed, for each function that stands in a rule. */
START_TEST(checker_notices_a_missing_function)
{
    static const struct {
        int operation, id;
    } cases[] = {
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_FREE },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_HAS },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_LOAD },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GET_PARAMS },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_IMPORT_TYPES },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_EXPORT },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_INIT },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_CLEANUP },
        { OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS },
        { OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_NEWCTX },
        { OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SIGN },
        { OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT },
        { OSSL_OP_STORE, OSSL_FUNC_STORE_EOF },
        { OSSL_OP_STORE, OSSL_FUNC_STORE_CLOSE },
        { OSSL_OP_DECODER, OSSL_FUNC_DECODER_DECODE },
        { OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_ENCODE },
    };
    struct instance in = start(full_core);
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const OSSL_DISPATCH *table = query(&in, cases[i].operation)->implementation;

        ck_assert_msg(fault_without(cases[i].operation, table, cases[i].id, V3_0) != NULL, "case %zu on 3.0",
                      i);
        ck_assert_msg(fault_without(cases[i].operation, table, cases[i].id, V3_4) != NULL, "case %zu on 3.4",
                      i);
    }
    stop(&in);
}
END_TEST

START_TEST(tables_are_constant)
{
    struct instance a = start(full_core), b = start(empty_core);
    int i;

    for (i = 0; i < OPERATION_COUNT; i++) {
        ck_assert_ptr_eq(query(&a, operations[i]), query(&a, operations[i]));
        ck_assert_ptr_eq(query(&a, operations[i]), query(&b, operations[i]));
    }
    stop(&a);
    stop(&b);
}
END_TEST

START_TEST(only_our_own_operations_are_offered)
{
    struct instance in = start(full_core);
    int op;

    for (op = 1; op < 30; op++) {
        bool ours = false;
        int i;

        for (i = 0; i < OPERATION_COUNT; i++)
            ours = ours || operations[i] == op;
        ck_assert_msg((query(&in, op) != NULL) == ours, "operation %d", op);
    }
    stop(&in);
}
END_TEST

START_TEST(every_algorithm_says_provider_hsm_and_never_fips)
{
    struct instance in = start(full_core);
    const OSSL_ALGORITHM *a = query(&in, operations[_i]);

    for (; a->algorithm_names != NULL; a++) {
        ck_assert_msg(strncmp(a->property_definition, "provider=hsm", 12) == 0, "%s", a->algorithm_names);
        ck_assert_ptr_null(strstr(a->property_definition, "fips"));
    }
    stop(&in);
}
END_TEST

static bool offers(struct instance *in, int operation, const char *names)
{
    const OSSL_ALGORITHM *a = query(in, operation);

    for (; a->algorithm_names != NULL; a++)
        if (strcmp(a->algorithm_names, names) == 0)
            return true;
    return false;
}

START_TEST(key_types_carry_the_default_providers_aliases)
{
    struct instance in = start(full_core);

    ck_assert(offers(&in, OSSL_OP_KEYMGMT, "RSA:rsaEncryption:1.2.840.113549.1.1.1"));
    ck_assert(offers(&in, OSSL_OP_KEYMGMT, "RSA-PSS:RSASSA-PSS:1.2.840.113549.1.1.10"));
    ck_assert(offers(&in, OSSL_OP_KEYMGMT, "EC:id-ecPublicKey:1.2.840.10045.2.1"));
    ck_assert(offers(&in, OSSL_OP_KEYMGMT, "ED25519:1.3.101.112"));
    ck_assert(offers(&in, OSSL_OP_KEYMGMT, "X25519:1.3.101.110"));
    ck_assert(offers(&in, OSSL_OP_SIGNATURE, "ECDSA"));
    ck_assert(offers(&in, OSSL_OP_DECODER, "DER"));
    stop(&in);
}
END_TEST

START_TEST(the_alias_scheme_is_off_unless_configured)
{
    struct instance in = start(full_core);

    ck_assert(offers(&in, OSSL_OP_STORE, "hsm"));
    ck_assert(!offers(&in, OSSL_OP_STORE, "pkcs11"));
    ck_assert(!offers(&in, OSSL_OP_STORE, "file"));
    stop(&in);
    core_answers[0][0] = "alias-scheme";
    core_answers[0][1] = "pkcs11";
    in = start(full_core);
    ck_assert(offers(&in, OSSL_OP_STORE, "hsm"));
    ck_assert(offers(&in, OSSL_OP_STORE, "pkcs11"));
    stop(&in);
}
END_TEST

static const char *text_param(struct instance *in, const char *name)
{
    char *text = NULL;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_ptr(name, &text, 0), OSSL_PARAM_construct_end() };

    ck_assert_int_eq(((OSSL_FUNC_provider_get_params_fn *)function(in, OSSL_FUNC_PROVIDER_GET_PARAMS))(
                         in->provctx, params),
                     1);
    return text;
}

START_TEST(provider_tells_its_name_and_version)
{
    struct instance in = start(empty_core);
    const OSSL_PARAM *gettable = ((OSSL_FUNC_provider_gettable_params_fn *)function(
        &in, OSSL_FUNC_PROVIDER_GETTABLE_PARAMS))(in.provctx);

    ck_assert_str_eq(text_param(&in, OSSL_PROV_PARAM_NAME), "hsm");
    ck_assert_ptr_nonnull(text_param(&in, OSSL_PROV_PARAM_VERSION));
    ck_assert_ptr_nonnull(text_param(&in, OSSL_PROV_PARAM_BUILDINFO));
    ck_assert_ptr_null(text_param(&in, "unknown"));
    ck_assert_ptr_nonnull(OSSL_PARAM_locate_const(gettable, OSSL_PROV_PARAM_STATUS));
    stop(&in);
}
END_TEST

START_TEST(every_status_has_its_reason_string)
{
    struct instance in = start(empty_core);
    const OSSL_ITEM *item = ((OSSL_FUNC_provider_get_reason_strings_fn *)function(
        &in, OSSL_FUNC_PROVIDER_GET_REASON_STRINGS))(in.provctx);
    unsigned expected = 1;

    for (; item->id != 0; item++, expected++) {
        ck_assert_uint_eq(item->id, expected);
        ck_assert_str_eq(item->ptr, hsm_strerror((hsm_status)expected));
    }
    ck_assert_uint_eq(expected, HSM_ERR_CRYPTO + 1);
    stop(&in);
}
END_TEST

/* Upcalls, section, environment, file: all may be missing. */
START_TEST(init_works_with_an_empty_core)
{
    struct instance in = start(empty_core);

    ck_assert_ptr_nonnull(query(&in, OSSL_OP_KEYMGMT));
    stop(&in);
    in = start(NULL);
    stop(&in);
}
END_TEST

static int count_group(const OSSL_PARAM params[], void *arg)
{
    ++*(int *)arg;
    return 1;
}

START_TEST(no_capability_is_claimed_without_a_library_context_to_ask)
{
    struct instance in = start(full_core);
    OSSL_FUNC_provider_get_capabilities_fn *get =
        (OSSL_FUNC_provider_get_capabilities_fn *)function(&in, OSSL_FUNC_PROVIDER_GET_CAPABILITIES);
    int count = 0;

    ck_assert_int_eq(get(in.provctx, "TLS-GROUP", count_group, &count), 1);
    ck_assert_int_eq(get(in.provctx, "TLS-SIGALG", count_group, &count), 1);
    ck_assert_int_eq(count, 0);
    stop(&in);
}
END_TEST

static int generate(struct instance *in)
{
    const OSSL_ALGORITHM *a = query(in, OSSL_OP_KEYMGMT);
    OSSL_FUNC_keymgmt_gen_init_fn *init = NULL;
    OSSL_FUNC_keymgmt_gen_fn *gen = NULL;
    OSSL_FUNC_keymgmt_gen_cleanup_fn *cleanup = NULL;
    const OSSL_DISPATCH *f;
    void *ctx, *key;

    while (strncmp(a->algorithm_names, "ED25519", 7) != 0)
        a++;
    for (f = a->implementation; f->function_id != 0; f++) {
        if (f->function_id == OSSL_FUNC_KEYMGMT_GEN_INIT)
            init = OSSL_FUNC_keymgmt_gen_init(f);
        if (f->function_id == OSSL_FUNC_KEYMGMT_GEN)
            gen = OSSL_FUNC_keymgmt_gen(f);
        if (f->function_id == OSSL_FUNC_KEYMGMT_GEN_CLEANUP)
            cleanup = OSSL_FUNC_keymgmt_gen_cleanup(f);
    }
    ctx = init(in->provctx, 0x3, NULL);
    ck_assert_ptr_nonnull(ctx);
    key = gen(ctx, NULL, NULL);
    cleanup(ctx);
    return key != NULL;
}

static const struct {
    const char *answers[3][2];
    const char *says;
} faults[] = {
    { { { "token", "nonsense" } }, "names no driver" },
    { { { "token", "soft:/x" }, { "tokens", "a" }, { "token.a", "soft:/a" } }, "both" },
    { { { "tokens", "a b" }, { "token.a", "soft:/a" } }, "names 'b'" },
    { { { "pin-source", "carrier-pigeon" } }, "pin-source" },
    { { { "log-level", "loud" } }, "log-level" },
    { { { "alias-scheme", "file" } }, "alias-scheme" },
};

START_TEST(broken_configuration_is_raised_at_first_use_not_at_init)
{
    struct instance in;
    size_t i;

    for (i = 0; i < 3; i++) {
        core_answers[i][0] = faults[_i].answers[i][0];
        core_answers[i][1] = faults[_i].answers[i][1];
    }
    in = start(full_core);
    ck_assert_uint_eq(raised_reason, 0);
    ck_assert_ptr_nonnull(query(&in, OSSL_OP_KEYMGMT));
    ck_assert_int_eq(generate(&in), 0);
    ck_assert_uint_eq(raised_reason, HSM_ERR_CONFIG);
    ck_assert_msg(strstr(raised_text, faults[_i].says) != NULL, "%s", raised_text);
    stop(&in);
}
END_TEST

START_TEST(broken_configuration_is_logged)
{
    char path[64] = "/tmp/hsm-log-XXXXXX", log[80], line[600] = "";
    struct instance in;
    FILE *f;

    ck_assert_int_ge(mkstemp(path), 0);
    (void)snprintf(log, sizeof(log), "file:%s", path);
    core_answers[0][0] = "log";
    core_answers[0][1] = log;
    core_answers[1][0] = "token";
    core_answers[1][1] = "nonsense";
    in = start(full_core);
    stop(&in);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
    (void)fclose(f);
    (void)remove(path);
    ck_assert_msg(strstr(line, "names no driver") != NULL, "%s", line);
}
END_TEST

START_TEST(several_tokens_are_asked_for_by_name)
{
    struct instance in;

    core_answers[0][0] = "tokens";
    core_answers[0][1] = "board backup";
    core_answers[1][0] = "token.board";
    core_answers[1][1] = "soft:/nowhere/board.db";
    core_answers[2][0] = "token.backup";
    core_answers[2][1] = "soft:/nowhere/backup.db";
    in = start(full_core);
    ck_assert_int_eq(generate(&in), 0); /* board.db does not exist: the configuration was understood */
    ck_assert_uint_ne(raised_reason, HSM_ERR_CONFIG);
    ck_assert_msg(strstr(raised_text, "board") != NULL, "%s", raised_text);
    stop(&in);
}
END_TEST

/* The dynamic symbol table: whatever else were visible could clash with the program's own copy of a library.
 */
START_TEST(only_the_init_function_is_exported)
{
    struct link_map *map = NULL;
    const ElfW(Dyn) * d;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t i, exported = 0;

    ck_assert_int_eq(dlinfo(module, RTLD_DI_LINKMAP, &map), 0);
    for (d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            symbols = (const void *)d->d_un.d_ptr;
        else if (d->d_tag == DT_STRTAB)
            strings = (const void *)d->d_un.d_ptr;
    }
    ck_assert(symbols != NULL && strings != NULL);
    for (i = 1; (const char *)&symbols[i] < strings; i++) { /* .dynstr follows .dynsym */
        if (symbols[i].st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbols[i].st_info) == STB_LOCAL)
            continue;
        if (symbols[i].st_shndx == SHN_ABS) /* the name of the symbol version */
            continue;
        ck_assert_str_eq(strings + symbols[i].st_name, "OSSL_provider_init");
        exported++;
    }
    ck_assert_uint_eq(exported, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tables");
    TCase *tc = tcase_create("tables");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, open_module, NULL);
    tcase_add_loop_test(tc, every_table_obeys_the_pair_rules, 0, OPERATION_COUNT);
    tcase_add_test(tc, checker_notices_a_missing_function);
    tcase_add_test(tc, tables_are_constant);
    tcase_add_test(tc, only_our_own_operations_are_offered);
    tcase_add_loop_test(tc, every_algorithm_says_provider_hsm_and_never_fips, 0, OPERATION_COUNT);
    tcase_add_test(tc, key_types_carry_the_default_providers_aliases);
    tcase_add_test(tc, the_alias_scheme_is_off_unless_configured);
    tcase_add_test(tc, provider_tells_its_name_and_version);
    tcase_add_test(tc, every_status_has_its_reason_string);
    tcase_add_test(tc, init_works_with_an_empty_core);
    tcase_add_test(tc, no_capability_is_claimed_without_a_library_context_to_ask);
    tcase_add_loop_test(tc, broken_configuration_is_raised_at_first_use_not_at_init, 0,
                        sizeof(faults) / sizeof(faults[0]));
    tcase_add_test(tc, broken_configuration_is_logged);
    tcase_add_test(tc, several_tokens_are_asked_for_by_name);
    tcase_add_test(tc, only_the_init_function_is_exported);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
