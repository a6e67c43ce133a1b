/* SPDX-License-Identifier: Apache-2.0 */
/** Every OSSL_DISPATCH table of this folder, declared once. */
#ifndef HSM_PROV_DISPATCH_H
#define HSM_PROV_DISPATCH_H

#include <openssl/core_dispatch.h>

extern const OSSL_DISPATCH prov_rsa_keymgmt_functions[];
extern const OSSL_DISPATCH prov_rsa_pss_keymgmt_functions[];
extern const OSSL_DISPATCH prov_ec_keymgmt_functions[];
extern const OSSL_DISPATCH prov_ed25519_keymgmt_functions[];
extern const OSSL_DISPATCH prov_ed448_keymgmt_functions[];
extern const OSSL_DISPATCH prov_x25519_keymgmt_functions[];
extern const OSSL_DISPATCH prov_x448_keymgmt_functions[];

extern const OSSL_DISPATCH prov_rsa_signature_functions[];
extern const OSSL_DISPATCH prov_ecdsa_signature_functions[];
extern const OSSL_DISPATCH prov_eddsa25519_signature_functions[]; /* valid pair rules on 3.0 and on 3.4+ */
extern const OSSL_DISPATCH prov_eddsa448_signature_functions[];

extern const OSSL_DISPATCH prov_pem_decoder_functions[]; /* PEM reference to DER */
extern const OSSL_DISPATCH prov_rsa_decoder_functions[]; /* DER reference to a key of this type */
extern const OSSL_DISPATCH prov_rsa_pss_decoder_functions[];
extern const OSSL_DISPATCH prov_ec_decoder_functions[];
extern const OSSL_DISPATCH prov_ed25519_decoder_functions[];
extern const OSSL_DISPATCH prov_ed448_decoder_functions[];
extern const OSSL_DISPATCH prov_x25519_decoder_functions[];
extern const OSSL_DISPATCH prov_x448_decoder_functions[];

extern const OSSL_DISPATCH prov_pem_encoder_functions[]; /* key reference, any of our keys */
extern const OSSL_DISPATCH prov_der_encoder_functions[];
extern const OSSL_DISPATCH prov_text_encoder_functions[];

extern const OSSL_DISPATCH prov_store_functions[];

/** Capability "TLS-GROUP"; see tls_groups.c for when it answers at all. */
OSSL_FUNC_provider_get_capabilities_fn prov_get_capabilities;

#endif
