/* SPDX-License-Identifier: Apache-2.0 */
/* The token calls of hsm.h: check arguments, serialise if the driver needs it, log in on demand, call the
 * driver. */
#include <string.h>

#include "utf8.h"
#include "hsm/pubkey.h"
#include "internal.h"

static hsm_status unsupported(struct hsm_token *tok, const char *what)
{
    return hsm_fail(HSM_ERR_UNSUPPORTED, "token '%s' (driver %s) cannot %s",
                    hsm_token_name(tok->slot->ctx, tok->slot->index), tok->driver->name, what);
}

static void enter(struct hsm_token *tok)
{
    if (!tok->driver->concurrent)
        (void)pthread_mutex_lock(&tok->slot->call_lock);
}

static void leave(struct hsm_token *tok)
{
    if (!tok->driver->concurrent)
        (void)pthread_mutex_unlock(&tok->slot->call_lock);
}

/* A call packed so that it can be made again after a login. */
struct call {
    hsm_status (*run)(struct hsm_token *tok, const struct call *call);
    hsm_handle handle;
    hsm_handle *new_handle;
    const struct hsm_object_spec *spec;
    const struct hsm_mech *mech;
    struct hsm_bytes in;
    struct hsm_buf *out;
    uint64_t initial; /* counters: value to begin with, and where the value goes */
    uint64_t *value;
    struct hsm_attestation *attestation;
    const char *command, *argument;
    hsm_line_fn *print;
    void *print_arg;
};

static hsm_status locked(struct hsm_token *tok, const struct call *call)
{
    hsm_status st;

    enter(tok);
    st = call->run(tok, call);
    leave(tok);
    return st;
}

static hsm_status perform(struct hsm_token *tok, const struct call *call, const struct hsm_uri *uri)
{
    unsigned logins = atomic_load_explicit(&tok->slot->logins, memory_order_relaxed);
    hsm_status st = locked(tok, call);

    if (st == HSM_ERR_PIN_REQUIRED && (st = slot_login(tok->slot, tok, uri, logins)) == HSM_OK)
        st = locked(tok, call);
    if (st == HSM_ERR_TOKEN_GONE)
        slot_retire(tok->slot, tok);
    return st;
}

/* ---- tokens and PINs ----------------------------------------------------------------------------------- */

hsm_status hsm_token_info(struct hsm_token *tok, struct hsm_token_info *info)
{
    hsm_status st;

    memset(info, 0, sizeof(*info));
    enter(tok);
    st = tok->driver->info(tok, info);
    leave(tok);
    return st;
}

hsm_status token_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin)
{
    hsm_status st;

    if (tok->driver->login == NULL)
        return unsupported(tok, "take a PIN");
    enter(tok);
    st = tok->driver->login(tok, role, pin);
    leave(tok);
    return st;
}

hsm_status hsm_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin)
{
    hsm_status st = token_login(tok, role, pin);

    if (st == HSM_OK && role == HSM_ROLE_USER)
        slot_forget_rejected(tok->slot);
    return st;
}

hsm_status hsm_login_configured(struct hsm_token *tok)
{
    struct hsm_token_info info;
    unsigned logins = atomic_load(&tok->slot->logins);
    hsm_status st = hsm_token_info(tok, &info);

    return st != HSM_OK || info.logged_in || info.no_pin ? st : slot_login(tok->slot, tok, NULL, logins);
}

hsm_status hsm_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                          struct hsm_bytes new_pin, bool machine_pin)
{
    hsm_status st;

    if (tok->driver->pin_change == NULL)
        return unsupported(tok, "change a PIN");
    enter(tok);
    st = tok->driver->pin_change(tok, role, old_pin, new_pin, machine_pin);
    leave(tok);
    return st;
}

hsm_status hsm_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                           bool machine_pin)
{
    hsm_status st;

    if (tok->driver->pin_unblock == NULL)
        return unsupported(tok, "unblock a PIN");
    enter(tok);
    st = tok->driver->pin_unblock(tok, so_pin, new_pin, machine_pin);
    leave(tok);
    if (st == HSM_OK)
        slot_forget_rejected(tok->slot);
    return st;
}

/* ---- objects ------------------------------------------------------------------------------------------- */

static enum hsm_class wanted_class(const struct hsm_uri *uri)
{
    switch (uri == NULL ? HSM_URI_TYPE_ANY : uri->type) {
    case HSM_URI_TYPE_PRIVATE:
    case HSM_URI_TYPE_PUBLIC:
    case HSM_URI_TYPE_SECRET:
        return HSM_CLASS_KEY;
    case HSM_URI_TYPE_CERT:
        return HSM_CLASS_CERT;
    case HSM_URI_TYPE_DATA:
        return HSM_CLASS_DATA;
    case HSM_URI_TYPE_COUNTER:
        return HSM_CLASS_COUNTER;
    case HSM_URI_TYPE_ANY:
        break;
    }
    return HSM_CLASS_ANY;
}

static bool matches(const struct hsm_uri *uri, const struct hsm_object *obj)
{
    enum hsm_class cls = wanted_class(uri);

    if (cls != HSM_CLASS_ANY && obj->cls != cls)
        return false;
    if (uri == NULL)
        return true;
    if (uri->type == HSM_URI_TYPE_SECRET)
        return false; /* no symmetric keys on any token of this build */
    return (uri->object[0] == '\0' || strcmp(uri->object, obj->label) == 0) &&
           (uri->id_len == 0 || (uri->id_len == obj->id_len && memcmp(uri->id, obj->id, uri->id_len) == 0));
}

struct filter {
    const struct hsm_uri *uri;
    hsm_object_fn *each;
    void *arg;
};

static hsm_status filter_object(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    const struct filter *f = arg;

    return matches(f->uri, obj) ? f->each(f->arg, tok, obj) : HSM_OK;
}

hsm_status hsm_find(struct hsm_token *tok, const struct hsm_uri *uri, hsm_object_fn *each, void *arg)
{
    struct filter filter = { uri, each, arg };
    const char *label = uri == NULL || uri->object[0] == '\0' ? NULL : uri->object;
    hsm_status st;

    enter(tok);
    st = tok->driver->enumerate(tok, wanted_class(uri), label, filter_object, &filter);
    leave(tok);
    if (st == HSM_ERR_TOKEN_GONE)
        slot_retire(tok->slot, tok);
    return st;
}

struct found_one {
    struct hsm_object *obj;
    size_t count;
};

static hsm_status keep_one(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    struct found_one *found = arg;

    if (found->count++ == 0)
        *found->obj = *obj;
    return HSM_OK;
}

static const char *class_word(enum hsm_class cls)
{
    switch (cls) {
    case HSM_CLASS_CERT:
        return "certificate";
    case HSM_CLASS_DATA:
        return "data object";
    case HSM_CLASS_COUNTER:
        return "counter";
    default:
        return "key";
    }
}

hsm_status hsm_find_one(struct hsm_token *tok, const struct hsm_uri *uri, struct hsm_object *obj)
{
    struct found_one found = { obj, 0 };
    const char *name = hsm_token_name(tok->slot->ctx, tok->slot->index);
    hsm_status st = hsm_find(tok, uri, keep_one, &found);

    if (st != HSM_OK)
        return st;
    if (found.count == 0)
        return hsm_fail(HSM_ERR_NO_OBJECT, "no %s '%s' on token '%s' (%s:%s); see `hsmctl key list`",
                        class_word(wanted_class(uri)),
                        uri->object[0] == '\0' && uri->id_len > 0 ? "with this id" : uri->object, name,
                        hsm_token_spec(tok->slot->ctx, tok->slot->index)->driver,
                        hsm_token_spec(tok->slot->ctx, tok->slot->index)->location);
    if (found.count > 1)
        return hsm_fail(HSM_ERR_AMBIGUOUS,
                        "%zu objects on token '%s' match; name one by object= and type=", found.count, name);
    return HSM_OK;
}

static hsm_status check_spec(const struct hsm_object_spec *spec)
{
    size_t len = spec->label == NULL ? 0 : strlen(spec->label);

    if (len == 0 || len > HSM_LABEL_MAX ||
        !hsm_utf8_valid((struct hsm_bytes){ (const uint8_t *)spec->label, len }))
        return hsm_fail(HSM_ERR_ARGUMENT, "a name needs 1 to %d bytes of UTF-8 without control characters",
                        HSM_LABEL_MAX);
    if (spec->id.len > HSM_ID_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "an id has at most %d bytes", HSM_ID_MAX);
    return HSM_OK;
}

static hsm_status run_generate(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->generate(tok, call->spec, call->new_handle);
}

hsm_status hsm_generate(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle)
{
    struct call call = { .run = run_generate, .spec = spec, .new_handle = handle };
    unsigned possible = hsm_kind_usages(&spec->kind);
    char kind[32], usage[96];
    hsm_status st = check_spec(spec);

    if (st != HSM_OK)
        return st;
    if (tok->driver->generate == NULL)
        return unsupported(tok, "generate keys");
    if (possible == 0 || (spec->usage & ~possible) != 0)
        return hsm_fail(HSM_ERR_USAGE, "a key of type %s can only be used for %s",
                        hsm_kind_format(&spec->kind, kind), hsm_usage_format(possible, usage));
    return perform(tok, &call, NULL);
}

static hsm_status run_import(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->import(tok, call->spec, call->in, call->new_handle);
}

hsm_status hsm_import(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                      hsm_handle *handle)
{
    struct call call = { .run = run_import, .spec = spec, .in = pkcs8, .new_handle = handle };
    hsm_status st = check_spec(spec);

    if (st != HSM_OK)
        return st;
    return tok->driver->import == NULL ? unsupported(tok, "import keys") : perform(tok, &call, NULL);
}

static hsm_status run_export(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->export_private(tok, call->handle, call->out);
}

hsm_status hsm_export(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8)
{
    struct call call = { .run = run_export, .handle = handle, .out = pkcs8 };

    return tok->driver->export_private == NULL ? unsupported(tok, "export keys") : perform(tok, &call, NULL);
}

static hsm_status run_put(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->put(tok, call->spec, call->in, call->new_handle);
}

hsm_status hsm_put(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                   hsm_handle *handle)
{
    struct call call = { .run = run_put, .spec = spec, .in = value, .new_handle = handle };
    hsm_status st = check_spec(spec);

    if (st != HSM_OK)
        return st;
    if (spec->cls != HSM_CLASS_CERT && spec->cls != HSM_CLASS_DATA)
        return hsm_fail(HSM_ERR_ARGUMENT, "only certificates and data objects can be stored as they are");
    if (value.len == 0 || value.len > HSM_DATA_MAX)
        return hsm_fail(HSM_ERR_DATA_LEN, "'%s': an object has 1 to %d bytes, this one has %zu", spec->label,
                        HSM_DATA_MAX, value.len);
    return tok->driver->put == NULL ? unsupported(tok, "store objects") : perform(tok, &call, NULL);
}

static hsm_status run_get(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->get(tok, call->handle, call->out);
}

hsm_status hsm_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value)
{
    struct call call = { .run = run_get, .handle = handle, .out = value };

    return tok->driver->get == NULL ? unsupported(tok, "read objects") : perform(tok, &call, NULL);
}

static hsm_status run_destroy(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->destroy(tok, call->handle);
}

hsm_status hsm_destroy(struct hsm_token *tok, hsm_handle handle)
{
    struct call call = { .run = run_destroy, .handle = handle };

    return tok->driver->destroy == NULL ? unsupported(tok, "destroy objects") : perform(tok, &call, NULL);
}

/* ---- operations ---------------------------------------------------------------------------------------- */

static hsm_status run_sign(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->sign(tok, call->handle, call->mech, call->in, call->out);
}

hsm_status token_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech, struct hsm_bytes in,
                      struct hsm_buf *sig, const struct hsm_uri *uri)
{
    struct call call = { .run = run_sign, .handle = key, .mech = mech, .in = in, .out = sig };

    return tok->driver->sign == NULL ? unsupported(tok, "sign") : perform(tok, &call, uri);
}

hsm_status hsm_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech, struct hsm_bytes in,
                    struct hsm_buf *sig)
{
    return token_sign(tok, key, mech, in, sig, NULL);
}

static hsm_status run_sign_message(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->sign_message(tok, call->handle, call->mech, call->in, call->out);
}

hsm_status token_sign_message(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                              struct hsm_bytes in, struct hsm_buf *sig, const struct hsm_uri *uri)
{
    struct call call = { .run = run_sign_message, .handle = key, .mech = mech, .in = in, .out = sig };

    return tok->driver->sign_message == NULL ? unsupported(tok, "hash a message") : perform(tok, &call, uri);
}

hsm_status hsm_sign_message(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                            struct hsm_bytes in, struct hsm_buf *sig)
{
    return token_sign_message(tok, key, mech, in, sig, NULL);
}

static hsm_status run_derive(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->derive(tok, call->handle, call->mech, call->in, call->out);
}

hsm_status token_derive(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                        struct hsm_bytes peer, struct hsm_buf *secret, const struct hsm_uri *uri)
{
    struct call call = { .run = run_derive, .handle = key, .mech = mech, .in = peer, .out = secret };

    return tok->driver->derive == NULL ? unsupported(tok, "agree on secrets") : perform(tok, &call, uri);
}

hsm_status hsm_derive(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                      struct hsm_bytes peer, struct hsm_buf *secret)
{
    return token_derive(tok, key, mech, peer, secret, NULL);
}

static hsm_status run_decrypt(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->decrypt(tok, call->handle, call->mech, call->in, call->out);
}

hsm_status token_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                         struct hsm_bytes in, struct hsm_buf *plain, const struct hsm_uri *uri)
{
    struct call call = { .run = run_decrypt, .handle = key, .mech = mech, .in = in, .out = plain };

    return tok->driver->decrypt == NULL ? unsupported(tok, "decrypt") : perform(tok, &call, uri);
}

hsm_status hsm_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                       struct hsm_bytes in, struct hsm_buf *plain)
{
    return token_decrypt(tok, key, mech, in, plain, NULL);
}

static hsm_status run_random(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->random(tok, call->out);
}

hsm_status hsm_random(struct hsm_token *tok, struct hsm_buf *out)
{
    struct call call = { .run = run_random, .out = out };

    return tok->driver->random == NULL ? unsupported(tok, "make random numbers") : perform(tok, &call, NULL);
}

/* ---- counters, attestation, administration ------------------------------------------------------------- */

static hsm_status run_counter_create(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->counter_create(tok, call->spec, call->initial, call->new_handle);
}

hsm_status hsm_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                              hsm_handle *handle)
{
    struct call call = { .run = run_counter_create, .spec = spec, .initial = value, .new_handle = handle };
    hsm_status st = check_spec(spec);

    if (st != HSM_OK)
        return st;
    if (spec->cls != HSM_CLASS_COUNTER)
        return hsm_fail(HSM_ERR_ARGUMENT, "'%s' is not described as a counter", spec->label);
    return tok->driver->counter_create == NULL ? unsupported(tok, "count") : perform(tok, &call, NULL);
}

static hsm_status run_counter_get(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->counter_get(tok, call->handle, call->value);
}

hsm_status hsm_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct call call = { .run = run_counter_get, .handle = handle, .value = value };

    return tok->driver->counter_get == NULL ? unsupported(tok, "count") : perform(tok, &call, NULL);
}

static hsm_status run_counter_increment(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->counter_increment(tok, call->handle, call->value);
}

hsm_status hsm_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct call call = { .run = run_counter_increment, .handle = handle, .value = value };

    return tok->driver->counter_increment == NULL ? unsupported(tok, "count") : perform(tok, &call, NULL);
}

static hsm_status run_attest(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->attest(tok, call->handle, call->in, call->attestation);
}

hsm_status hsm_attest(struct hsm_token *tok, hsm_handle handle, struct hsm_bytes challenge,
                      struct hsm_attestation *out)
{
    struct call call = { .run = run_attest, .handle = handle, .in = challenge, .attestation = out };

    memset(out, 0, sizeof(*out));
    if (challenge.len != HSM_CHALLENGE_LEN)
        return hsm_fail(HSM_ERR_DATA_LEN, "a challenge has %d bytes, this one %zu", HSM_CHALLENGE_LEN,
                        challenge.len);
    return tok->driver->attest == NULL ? unsupported(tok, "prove where a key comes from")
                                       : perform(tok, &call, NULL);
}

static hsm_status run_control(struct hsm_token *tok, const struct call *call)
{
    return tok->driver->control(tok, call->command, call->argument, call->print, call->print_arg);
}

hsm_status hsm_token_control(struct hsm_token *tok, const char *command, const char *argument,
                             hsm_line_fn *print, void *arg)
{
    struct call call = {
        .run = run_control, .command = command, .argument = argument, .print = print, .print_arg = arg
    };

    return tok->driver->control == NULL ? unsupported(tok, "be administered in this way")
                                        : perform(tok, &call, NULL);
}
