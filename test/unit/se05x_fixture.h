/* SPDX-License-Identifier: Apache-2.0 */
/** What the tests of the SE05x driver share: a simulator, a token on it, and the same bus once more below the
 * API. */
#ifndef SE05X_FIXTURE_H
#define SE05X_FIXTURE_H

#include "chip_fixture.h"
#include "token_fixture.h"

#include "se05x/token.h"

enum {
    GENERATIONS = 2,
    FOREIGN_KEY = 0x20000001,
    FOREIGN_AES = 0x20000007,
    FOREIGN_HMAC = 0x20000008,
    FOREIGN_USERID = 0x20000009
};
UNUSED static const char *const applets[GENERATIONS] = { "3.1.1", "7.2.0" };

UNUSED static struct hsm_ctx *ctx;
UNUSED static struct hsm_token *tok;
UNUSED static struct se05x_token *chip; /* the same bus once more, below the API */
UNUSED static uint16_t sw;
UNUSED static uint8_t bytes[2048];

/* ---- set-up
 * -------------------------------------------------------------------------------------------------- */

UNUSED static void setup(void)
{
    make_temp_dir();
}

UNUSED static void teardown(void)
{
    hsm_ctx_free(ctx);
    ctx = NULL;
    chip_stop();
    remove_temp_dir();
}

UNUSED static void begin_blank(int generation)
{
    chip_start(applets[generation], false);
    ctx = new_context(NULL);
    tok = get_token(ctx);
    chip = se05x_of(tok);
}

UNUSED static void begin_with(int generation, const struct hsm_token_init *init)
{
    chip_start(applets[generation], false);
    ctx = new_context(NULL);
    ck_ok(hsm_token_create(ctx, 0, init));
    tok = init->user_pin.len == 0 ? get_token(ctx) : login(ctx);
    chip = se05x_of(tok);
}

UNUSED static void begin(int generation)
{
    struct hsm_token_init init = default_init();

    init.force = false;
    begin_with(generation, &init);
}

UNUSED static struct hsm_buf room(void)
{
    return (struct hsm_buf){ bytes, sizeof(bytes), 0 };
}

UNUSED static void ck_sw(hsm_status st, uint16_t want, int line)
{
    ck_hsm(st, HSM_OK, line);
    ck_assert_msg(sw == want, "line %d: status word %04x, want %04x", line, sw, want);
}
#define ck_done(st) ck_sw((st), SE05X_SW_OK, __LINE__)

UNUSED static struct se05x_write new_object(uint32_t id)
{
    return (struct se05x_write){ .auth = SE05X_ANYBODY, .id = id };
}

UNUSED static size_t object_count(void)
{
    uint32_t *ids;
    size_t count, i, ours = 0;

    ck_ok(se05x_all_ids(chip, &ids, &count));
    for (i = 0; i < count; i++)
        ours += se05x_is_record(ids[i]) || se05x_is_value(ids[i]);
    free(ids);
    return ours;
}

/* The token once more, as a process would see it that comes later. */
UNUSED static void reopen(void)
{
    hsm_ctx_free(ctx);
    ctx = new_context(NULL);
    tok = login(ctx);
    chip = se05x_of(tok);
}

UNUSED static EVP_PKEY *public_of(uint32_t id, const char *kind)
{
    uint8_t der[HSM_SPKI_MAX];
    struct hsm_buf spki = { der, sizeof(der), 0 };
    struct hsm_key_kind k = kind_of(kind);
    const unsigned char *at = der;

    ck_ok(se05x_key_spki(chip, id, &k, (struct hsm_bytes){ NULL, 0 }, &spki));
    return d2i_PUBKEY(NULL, &at, (long)spki.len);
}

UNUSED static void make_foreign_key(const char *kind, uint32_t id)
{
    struct hsm_bytes none = { NULL, 0 };
    struct hsm_key_kind k = kind_of(kind);
    struct se05x_write w = new_object(id);

    ck_ok(se05x_curve_ensure(chip, &k));
    if (k.type == HSM_KEY_RSA)
        ck_done(se05x_write_rsa(chip, &w, SE05X_PART_PAIR, true, (uint16_t)k.bits, SE05X_RSA_TAG_NONE, none,
                                &sw));
    else
        ck_done(se05x_write_ec(chip, &w, SE05X_PART_PAIR, se05x_curve_of(&k), none, none, &sw));
}

#endif
