/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl random N: bytes from the token, in pieces, so that N may be large. */
#include <stdio.h>
#include <unistd.h>

#include "hsm/secret.h"
#include "tool.h"

enum { PIECE = 4096, RANDOM_MAX = 1 << 30, RANDOM_FILE_MAX = 1 << 20 };

static bool print_piece(struct hsm_bytes piece, bool hex)
{
    char text[2 * PIECE + 1];
    bool ok;

    if (!hex)
        return fwrite(piece.ptr, 1, piece.len, stdout) == piece.len;
    hex_encode(piece, text);
    ok = fputs(text, stdout) >= 0;
    hsm_cleanse(text, sizeof(text));
    return ok;
}

static hsm_status print_random(struct hsm_token *tok, size_t count, bool hex)
{
    uint8_t bytes[PIECE];
    hsm_status st = HSM_OK;

    while (count > 0 && st == HSM_OK) {
        struct hsm_buf piece = { .ptr = bytes, .cap = count < PIECE ? count : PIECE };

        st = hsm_random(tok, &piece);
        if (st == HSM_OK && !print_piece((struct hsm_bytes){ bytes, piece.cap }, hex))
            break; /* out_finish() reports it */
        count -= piece.cap;
    }
    if (st == HSM_OK && hex)
        putchar('\n');
    hsm_cleanse(bytes, sizeof(bytes));
    return st;
}

static hsm_status write_random(struct hsm_token *tok, const char *path, size_t count, bool hex)
{
    size_t cap = hex ? 2 * count + 1 : count;
    struct hsm_buf random = { .ptr = hsm_secret_alloc(count), .cap = count };
    struct hsm_buf text = { .ptr = hsm_secret_alloc(cap), .cap = cap };
    hsm_status st;

    if (random.ptr == NULL || text.ptr == NULL) {
        st = hsm_fail(HSM_ERR_MEMORY, "out of memory for %zu random bytes", count);
        goto out;
    }
    if ((st = hsm_random(tok, &random)) != HSM_OK)
        goto out;
    if (hex) {
        hex_encode((struct hsm_bytes){ random.ptr, count }, (char *)text.ptr);
        text.ptr[cap - 1] = '\n';
    }
    st = tool_write_file(path, (struct hsm_bytes){ hex ? text.ptr : random.ptr, cap }, 0600);
out:
    hsm_secret_free(random.ptr, random.cap);
    hsm_secret_free(text.ptr, text.cap);
    return st;
}

hsm_status cmd_random(struct tool *t)
{
    unsigned long max = t->opt.out != NULL ? RANDOM_FILE_MAX : RANDOM_MAX, count = 0;
    struct hsm_token *tok = NULL;
    hsm_status st;

    if ((st = tool_number(t, "N", t->arg[0], 1, max, &count)) != HSM_OK)
        return st;
    if (!t->opt.hex && t->opt.out == NULL && isatty(STDOUT_FILENO))
        return tool_usage(t, "binary bytes would garble the terminal; use --hex, -o FILE or a pipe");
    if ((st = tool_token(t, &tok)) != HSM_OK)
        return st;
    return t->opt.out != NULL ? write_random(tok, t->opt.out, count, t->opt.hex)
                              : print_random(tok, count, t->opt.hex);
}
