/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl key attest: the token's proof that a key was made inside it, checked and shown. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "attest.h"

static const char *const origins[] = {
    [HSM_ORIGIN_NONE] = "unknown",
    [HSM_ORIGIN_GENERATED] = "generated",
    [HSM_ORIGIN_IMPORTED] = "imported",
    [HSM_ORIGIN_FACTORY] = "factory",
};

static hsm_status choose_challenge(struct tool *t, struct hsm_buf *out)
{
    if (t->opt.challenge != NULL) {
        if (hex_decode(t->opt.challenge, out) == HSM_OK && out->len == HSM_CHALLENGE_LEN)
            return HSM_OK;
        return tool_usage(t, "--challenge takes %d bytes as %d hexadecimal digits, not '%s'",
                          HSM_CHALLENGE_LEN, 2 * HSM_CHALLENGE_LEN, t->opt.challenge);
    }
    if (getrandom(out->ptr, HSM_CHALLENGE_LEN, 0) != HSM_CHALLENGE_LEN)
        return hsm_fail(HSM_ERR_INTERNAL, "the kernel gives no random numbers: %s", strerror(errno));
    out->len = HSM_CHALLENGE_LEN;
    return HSM_OK;
}

static struct json_object *describe(const struct hsm_object *key, const struct hsm_attestation *proof,
                                    struct hsm_bytes challenge, const struct attest_verdict *v)
{
    struct json_object *record = json_object_new_object();
    char type[32];

    out_text(record, "label", key->label);
    out_text(record, "type", hsm_kind_format(&key->kind, type));
    out_text(record, "format", proof->format);
    out_hex(record, "chip_id", (struct hsm_bytes){ proof->chip_id, proof->chip_id_len });
    out_hex(record, "challenge", challenge);
    out_text(record, "origin", origins[v->origin]);
    out_bool(record, "signature_valid", v->signature_valid);
    out_bool(record, "challenge_valid", v->challenge_valid);
    out_bool(record, "key_valid", v->key_valid);
    if (v->chain_asked)
        out_bool(record, "chain_valid", v->chain_valid);
    out_text(record, "chain", v->chain_asked ? v->chain_text : "not checked (--ca)");
    return record;
}

/* What somebody else needs in order to check it again. */
static void add_evidence(struct json_object *record, const struct hsm_object *key,
                         const struct hsm_attestation *proof)
{
    out_hex(record, "public_key", (struct hsm_bytes){ key->spki, key->spki_len });
    out_hex(record, "attester", (struct hsm_bytes){ proof->attester, proof->attester_len });
    out_hex(record, "certificate", (struct hsm_bytes){ proof->certificate, proof->certificate_len });
    out_hex(record, "message", (struct hsm_bytes){ proof->message, proof->message_len });
    out_hex(record, "signature", (struct hsm_bytes){ proof->signature, proof->signature_len });
}

static hsm_status write_evidence(const char *path, struct json_object *record)
{
    const char *text = json_object_to_json_string_ext(record, JSON_C_TO_STRING_PRETTY);

    if (text == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for the proof");
    return tool_write_file(path, (struct hsm_bytes){ (const uint8_t *)text, strlen(text) }, 0644);
}

static hsm_status show(struct tool *t, const struct hsm_object *key, const struct hsm_attestation *proof,
                       struct hsm_bytes challenge, const struct attest_verdict *v)
{
    struct json_object *whole = describe(key, proof, challenge, v);
    hsm_status st = HSM_OK;

    add_evidence(whole, key, proof);
    if (t->opt.out != NULL)
        st = write_evidence(t->opt.out, whole);
    if (st == HSM_OK && t->opt.json)
        return out_record(t, whole);
    json_object_put(whole);
    return st == HSM_OK ? out_record(t, describe(key, proof, challenge, v)) : st;
}

static hsm_status conclude(const struct hsm_object *key, const struct attest_verdict *v)
{
    const char *label = key->label;

    if (!v->signature_valid)
        return hsm_fail(HSM_ERR_CRYPTO, "the proof for key '%s' is not signed by the attestation key", label);
    if (!v->key_valid)
        return hsm_fail(HSM_ERR_KEY_CHANGED, "the proof speaks of another public key than that of '%s'",
                        label);
    if (!v->challenge_valid)
        return hsm_fail(HSM_ERR_CRYPTO,
                        "the proof for key '%s' does not answer this challenge: it may be an old one", label);
    if (v->chain_asked && !v->chain_valid)
        return hsm_fail(HSM_ERR_CRYPTO, "the proof for key '%s' does not lead to that CA: %s", label,
                        v->chain_text);
    if (v->origin != HSM_ORIGIN_GENERATED && v->origin != HSM_ORIGIN_FACTORY)
        return hsm_fail(HSM_ERR_CRYPTO, "key '%s' was not made in the token: its origin is '%s'", label,
                        origins[v->origin]);
    return HSM_OK;
}

hsm_status cmd_key_attest(struct tool *t)
{
    uint8_t bytes[HSM_CHALLENGE_LEN];
    struct hsm_buf challenge = { .ptr = bytes, .cap = sizeof(bytes) };
    struct hsm_attestation proof;
    struct attest_verdict verdict;
    struct hsm_token *tok = NULL;
    struct hsm_object key;
    struct hsm_bytes in;
    hsm_status st;

    if ((st = choose_challenge(t, &challenge)) != HSM_OK ||
        (st = tool_object(t, t->arg[0], HSM_URI_TYPE_PRIVATE, &tok, &key)) != HSM_OK)
        return st;
    in = (struct hsm_bytes){ bytes, challenge.len };
    if ((st = hsm_attest(tok, key.handle, in, &proof)) != HSM_OK ||
        (st = attest_judge(t, &proof, &key, in, t->opt.ca, &verdict)) != HSM_OK ||
        (st = show(t, &key, &proof, in, &verdict)) != HSM_OK)
        return st;
    return conclude(&key, &verdict);
}
