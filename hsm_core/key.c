/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys by reference. The first operation looks the key up and remembers where it was; that binding holds for
 * one process and one opening of the token, and is made anew when either has changed.
 */
#include <stdlib.h>
#include <string.h>

#include "hsm/pubkey.h"
#include "hsm/secret.h"
#include "internal.h"

/* Immutable once published; old ones stay until the key is freed, since another thread may be reading them.
 */
struct binding {
    struct binding *previous;
    const struct process *process;
    struct hsm_slot *slot;
    struct hsm_token *token;
    hsm_handle handle;
};

struct hsm_key {
    atomic_uint refs;
    struct hsm_ctx *ctx;
    struct hsm_uri *uri; /* secret memory if it holds a PIN */
    bool secret_uri;
    _Atomic(struct binding *) binding;
    size_t spki_len;
    uint8_t spki[];
};

static void free_uri(struct hsm_key *key)
{
    if (key->secret_uri)
        hsm_secret_free(key->uri, sizeof(*key->uri));
    else
        free(key->uri);
}

hsm_status hsm_key_new(struct hsm_ctx *ctx, const struct hsm_uri *uri, struct hsm_bytes spki,
                       struct hsm_key **key)
{
    struct hsm_key *k;

    if (spki.len > HSM_SPKI_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "public key longer than %d bytes", HSM_SPKI_MAX);
    if ((k = calloc(1, sizeof(*k) + spki.len)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    k->secret_uri = uri->has_pin_value;
    k->uri = uri->has_pin_value ? hsm_secret_alloc(sizeof(*uri)) : malloc(sizeof(*uri));
    if (k->uri == NULL) {
        free(k);
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    }
    *k->uri = *uri;
    atomic_init(&k->refs, 1);
    k->ctx = ctx;
    k->spki_len = spki.len;
    if (spki.len > 0)
        memcpy(k->spki, spki.ptr, spki.len);
    *key = k;
    return HSM_OK;
}

struct hsm_key *hsm_key_ref(struct hsm_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void hsm_key_free(struct hsm_key *key)
{
    struct binding *b, *previous;

    if (key == NULL || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (b = atomic_load(&key->binding); b != NULL; b = previous) {
        previous = b->previous;
        free(b);
    }
    free_uri(key);
    free(key);
}

const struct hsm_uri *hsm_key_uri(const struct hsm_key *key)
{
    return key->uri;
}

/* ---- looking up ---------------------------------------------------------------------------------------- */

/* The URI without what does not help to find a private key: its type is asked for by the operation. */
static hsm_status find_on(struct hsm_key *key, struct hsm_token *tok, struct hsm_object *obj)
{
    struct hsm_uri uri = *key->uri;
    hsm_status st;

    hsm_uri_clear(&uri);
    if (uri.type == HSM_URI_TYPE_ANY)
        uri.type = HSM_URI_TYPE_PRIVATE;
    if ((st = hsm_find_one(tok, &uri, obj)) != HSM_OK)
        return st;
    if (key->spki_len > 0 &&
        (key->spki_len != obj->spki_len || memcmp(key->spki, obj->spki, key->spki_len) != 0)) {
        struct hsm_pubkey expected, found;

        if (hsm_pubkey_parse((struct hsm_bytes){ key->spki, key->spki_len }, &expected) != HSM_OK ||
            hsm_pubkey_parse((struct hsm_bytes){ obj->spki, obj->spki_len }, &found) != HSM_OK ||
            !hsm_pubkey_equal(&expected, &found))
            return hsm_fail(HSM_ERR_KEY_CHANGED,
                            "the token holds another key under the name '%s' than when the reference was "
                            "written; write it anew with `hsmctl key ref`, and renew its certificate",
                            obj->label);
    }
    return HSM_OK;
}

/* One token if the URI names one; else each in turn, and the first trouble is kept in case none has the key.
 */
static hsm_status find_anywhere(struct hsm_key *key, struct hsm_token **tok, struct hsm_object *obj)
{
    size_t i, count = hsm_token_count(key->ctx);
    hsm_status st = HSM_ERR_NO_OBJECT, one;

    if (key->uri->token[0] != '\0' || count == 1) {
        if ((st = hsm_token_find(key->ctx, key->uri->token, tok)) == HSM_OK)
            st = find_on(key, *tok, obj);
        return st;
    }
    for (i = 0; i < count; i++) {
        if ((one = hsm_token_get(key->ctx, i, tok)) == HSM_OK && (one = find_on(key, *tok, obj)) == HSM_OK)
            return HSM_OK;
        if (one != HSM_ERR_NO_OBJECT)
            st = one;
    }
    return st == HSM_ERR_NO_OBJECT
               ? hsm_fail(st, "no key '%s' on any of the %zu configured tokens; see `hsmctl key list`",
                          key->uri->object, count)
               : st;
}

static bool is_current(const struct binding *b, const struct process *process)
{
    return b != NULL && b->process == process &&
           atomic_load_explicit(&b->slot->token, memory_order_acquire) == b->token;
}

static struct binding *publish(struct hsm_key *key, const struct process *process, struct hsm_token *tok,
                               hsm_handle handle)
{
    struct binding *fresh = malloc(sizeof(*fresh)), *previous = atomic_load(&key->binding);

    if (fresh == NULL)
        return NULL;
    *fresh = (struct binding){ NULL, process, tok->slot, tok, handle };
    do
        fresh->previous = previous;
    while (!atomic_compare_exchange_weak(&key->binding, &previous, fresh));
    return fresh;
}

static hsm_status bind(struct hsm_key *key, bool again, const struct binding **binding)
{
    const struct process *process = process_get(key->ctx);
    struct binding *b = atomic_load_explicit(&key->binding, memory_order_acquire);
    struct hsm_token *tok;
    struct hsm_object obj;
    hsm_status st;

    if (process == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a process");
    if (again || !is_current(b, process)) {
        if ((st = find_anywhere(key, &tok, &obj)) == HSM_ERR_TOKEN_GONE)
            st = find_anywhere(key, &tok,
                               &obj); /* replaced meanwhile: it was retired, this opens the new one */
        if (st != HSM_OK)
            return st;
        if ((b = publish(key, process, tok, obj.handle)) == NULL)
            return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    }
    *binding = b;
    return HSM_OK;
}

hsm_status hsm_key_object(struct hsm_key *key, struct hsm_object *obj)
{
    struct hsm_token *tok;
    hsm_status st = find_anywhere(key, &tok, obj);

    return st == HSM_ERR_TOKEN_GONE ? find_anywhere(key, &tok, obj) : st;
}

/* ---- operations ---------------------------------------------------------------------------------------- */

typedef hsm_status token_use_fn(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                                struct hsm_bytes in, struct hsm_buf *out, const struct hsm_uri *uri);

static hsm_status use_by(token_use_fn *use, struct hsm_key *key, const struct hsm_mech *mech,
                         struct hsm_bytes in, struct hsm_buf *out)
{
    const struct binding *b;
    hsm_status st;

    if ((st = bind(key, false, &b)) != HSM_OK)
        return st;
    st = use(b->token, b->handle, mech, in, out, key->uri);
    /* Made anew under the same name, or the token was replaced: look once more. A changed key is refused
     * there. */
    if ((st == HSM_ERR_NO_OBJECT || st == HSM_ERR_TOKEN_GONE) && (st = bind(key, true, &b)) == HSM_OK)
        st = use(b->token, b->handle, mech, in, out, key->uri);
    return st;
}

hsm_status hsm_key_sign(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes in,
                        struct hsm_buf *sig)
{
    hsm_status st = use_by(token_sign, key, mech, in, sig);

    hsm_log(key->ctx, HSM_LOG_DEBUG, "sign with key '%s': %s", key->uri->object, hsm_strerror(st));
    return st;
}

hsm_status hsm_key_sign_message(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes in,
                                struct hsm_buf *sig)
{
    hsm_status st = use_by(token_sign_message, key, mech, in, sig);

    if (st != HSM_ERR_UNSUPPORTED) /* then comes hsm_key_sign(), and its line */
        hsm_log(key->ctx, HSM_LOG_DEBUG, "sign a message with key '%s': %s", key->uri->object,
                hsm_strerror(st));
    return st;
}

hsm_status hsm_key_derive(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes peer,
                          struct hsm_buf *secret)
{
    hsm_status st = use_by(token_derive, key, mech, peer, secret);

    hsm_log(key->ctx, HSM_LOG_DEBUG, "derive with key '%s': %s", key->uri->object, hsm_strerror(st));
    return st;
}

hsm_status hsm_key_decrypt(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes in,
                           struct hsm_buf *plain)
{
    hsm_status st = use_by(token_decrypt, key, mech, in, plain);

    hsm_log(key->ctx, HSM_LOG_DEBUG, "decrypt with key '%s': %s", key->uri->object, hsm_strerror(st));
    return st;
}

/* ---- PINs that a person gave --------------------------------------------------------------------------- */

/* The configured token that the URI means, as far as that is known without I/O. */
static size_t token_index(const struct hsm_key *key)
{
    size_t i, count = hsm_token_count(key->ctx);

    for (i = 0; i < count; i++)
        if (strcmp(hsm_token_name(key->ctx, i), key->uri->token) == 0)
            return i;
    return 0;
}

/* An open token may have told that its keys need none. */
static bool needs_no_pin(struct hsm_ctx *ctx, size_t index)
{
    const struct process *process = process_get(ctx);
    const struct hsm_token *tok =
        process == NULL || index >= process->slot_count
            ? NULL
            : atomic_load_explicit(&process->slots[index].token, memory_order_acquire);

    return tok != NULL && tok->no_pin;
}

bool hsm_key_wants_pin(struct hsm_key *key, bool if_unset)
{
    size_t index = token_index(key);
    const char *source = hsm_pin_source(key->ctx, index);

    if (key->uri->has_pin_value || key->uri->pin_source[0] != '\0' ||
        atomic_load(&key->ctx->given[index]) != NULL || needs_no_pin(key->ctx, index))
        return false;
    return source == NULL ? if_unset : pin_source_is_prompt(source);
}

hsm_status hsm_key_give_pin(struct hsm_key *key, struct hsm_bytes pin)
{
    _Atomic(struct given_pin *) *head = &key->ctx->given[token_index(key)];
    struct given_pin *fresh;

    if (pin.len == 0 || pin.len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_FORMAT, "a PIN has 1 to %d bytes", HSM_PIN_MAX);
    if ((fresh = hsm_secret_alloc(sizeof(*fresh))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a PIN");
    memcpy(fresh->pin, pin.ptr, pin.len);
    fresh->len = pin.len;
    fresh->previous = atomic_load(head);
    while (!atomic_compare_exchange_weak(head, &fresh->previous, fresh))
        ;
    return HSM_OK;
}
