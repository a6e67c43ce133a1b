#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hsm-bench measures every operation and prints what its users parse. The figures themselves are not judged here.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need jq nginx openssl

bench=$HSM_BUILD_DIR/test/bench/hsm-bench
mkdir "$work/tmp"
export TMPDIR=$work/tmp
ok 'all operations, as JSON' timeout 120 "$bench" --json --seconds 0.1
cp "$work/out" "$work/all.json"
same 'nine rows' "$(jq length "$work/all.json")" 9
ok 'each complete and plausible' jq -e 'all(.[]; (.op | type == "string") and (.token | startswith("soft:")) and
    (.threads >= 1) and (.ops_per_s > 0) and (.ratio > 0.05) and (.ratio < 5))' "$work/all.json"
ok 'a table for people' timeout 60 "$bench" --op ecdsa-p256,load --threads 2 --seconds 0.1
cp "$work/out" "$work/table"
ok 'with a row each' grep -Eq '^ecdsa-p256 +2 ' "$work/table"
make_token
ok 'on a token of the user' timeout 60 "$bench" --json --op ed25519 --token "$HSM_TOKEN" --seconds 0.1
same 'which is left as it was' "$(hsmctl key list --json | tr -d ' \n')" '[]'
fails 'an unknown operation is refused' "no operation 'nothing'" "$bench" --op nothing
fails 'a token that is not there is refused' . "$bench" --op load --token "soft:$work/absent.db"
same 'no temporary files are left' "left: $(ls "$TMPDIR")" "left: "
finish
