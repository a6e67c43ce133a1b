/* SPDX-License-Identifier: Apache-2.0 */
/** Key URIs and usage lists: whatever parses must format to a URI that parses to the same meaning. */
#include <stdlib.h>
#include <string.h>

#include "hsm/pubkey.h"
#include "hsm/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct hsm_uri *uri)
{
    static uint8_t text[HSM_URI_MAX + 1];
    struct hsm_buf out = { .ptr = text, .cap = sizeof(text) };
    struct hsm_uri again;

    if (hsm_uri_format(uri, &out) != HSM_OK)
        return; /* every percent code of a long URI may need three characters: HSM_ERR_BUFFER is an honest
                   answer */
    if (out.len != strlen((const char *)text) || hsm_uri_parse((const char *)text, &again) != HSM_OK)
        abort();
    if (strcmp(uri->token, again.token) != 0 || strcmp(uri->object, again.object) != 0 ||
        uri->type != again.type || uri->id_len != again.id_len || memcmp(uri->id, again.id, uri->id_len) != 0)
        abort();
    if (again.has_pin_value) /* a PIN never leaves through the formatter */
        abort();
    hsm_uri_clear(&again);
}

static void parse_other_grammars(const char *text)
{
    struct hsm_uri uri;
    struct hsm_key_kind kind;
    unsigned usage;
    char name[96];

    if (hsm_uri_parse_scheme(text, "pkcs11", &uri) == HSM_OK)
        hsm_uri_clear(&uri);
    if (hsm_kind_parse(text, &kind) == HSM_OK)
        (void)hsm_kind_format(&kind, name);
    if (hsm_usage_parse(text, &usage) == HSM_OK)
        (void)hsm_usage_format(usage, name);
    (void)hsm_curve_by_name(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct hsm_uri uri;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (hsm_uri_parse(text, &uri) == HSM_OK) {
        check_round_trip(&uri);
        hsm_uri_clear(&uri);
    }
    parse_other_grammars(text);
    free(text);
    return 0;
}
