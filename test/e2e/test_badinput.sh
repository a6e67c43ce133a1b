#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input, through hsmctl and through the openssl program: one clear line (what, where, remedy), the right exit code, no
# leak (HSM_VALGRIND=1 or --valgrind), and nothing lost.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hsmctl_lib.sh"

need openssl
mounted=()
unmount_and_cleanup()
{
    local dir

    for dir in ${mounted[@]+"${mounted[@]}"}; do
        umount -l "$dir"
    done
    cleanup
}
trap unmount_and_cleanup EXIT

export HSM_LOG=file:$work/log
make_token board
token_file=${HSM_TOKEN#soft:}
pin=$HSM_PIN_SOURCE
make_key web ec:P-256
make_key agree x25519
hsmctl key generate decrypts --type rsa:2048 --usage decrypt >"$work/out" 2>"$work/err"
hsmctl key ref decrypts -o "$work/decrypts.ref"
echo 'some data' >"$work/data"
hsmctl data put note "$work/data"
head -c 32 /dev/urandom >"$work/digest"

# openssl_says DESCRIPTION PATTERN COMMAND...: the program fails by itself and shows a line that matches PATTERN, which also
# stands in our log. With --log-only first: libcrypto swallows the line, so only the log has it.
openssl_says()
{
    local description=$1 pattern=$2 status shown=0

    shift 2
    [ "$1" = --log-only ] && shown=1 && shift
    : >"$work/log"
    "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    grep -Eq -- "$pattern" "$work/err" && shown=1
    if [ $status -ne 0 ] && [ $status -lt 126 ] && [ $shown = 1 ] && grep -Eq -- "$pattern" "$work/log"; then
        report ok "$description"
    else
        echo "exit $status, expected a failure that says '$pattern': $*" >>"$work/err"
        report 'NOT OK' "$description" "$work/err" "$work/log"
    fi
}

# Everything a token holds, as its owner sees it, and a proof that the key still works.
state()
{
    hsmctl key list && hsmctl data list && hsmctl data get note &&
        openssl pkeyutl -sign -inkey "$work/web.ref" -in "$work/digest" -out "$work/sig" &&
        openssl pkeyutl -verify -inkey "$work/web.ref" -in "$work/digest" -sigfile "$work/sig"
}
before=$(state 2>&1)
unchanged() { same "nothing is lost: $1" "$(state 2>&1)" "$before"; }
sign() { openssl pkeyutl -sign -inkey "${1:-$work/web.ref}" -in "$work/digest" -out "$work/sig"; } # [KEY]

ok 'the token works to begin with' state

# ---- PIN ---------------------------------------------------------------------------------------------------------
echo wrong-pin >"$work/wrong"
: >"$work/empty"
export HSM_PIN_SOURCE=file:$work/wrong
says 1 'wrong PIN' "PIN.*token 'token'.*(left|tries)|token 'token'.*PIN.*(left|tries)" data get note
openssl_says 'wrong PIN, openssl' 'PIN.*(left|tries)' sign
HSM_PIN_SOURCE=$pin unchanged 'wrong PIN'
HSM_PIN_SOURCE=file:$work/nowhere says 1 'PIN file missing' "pin-source file:$work/nowhere: No such file" data get note
HSM_PIN_SOURCE=file:$work/nowhere openssl_says 'PIN file missing, openssl' "pin-source file:$work/nowhere: No such file" sign
HSM_PIN_SOURCE=file:$work/empty says 1 'PIN file empty' 'there is no PIN in it' data get note
HSM_PIN_SOURCE=env:NO_SUCH_VARIABLE says 1 'PIN variable missing' 'env:NO_SUCH_VARIABLE' data get note
HSM_PIN_SOURCE=telepathy says 1 'PIN source of an unknown kind' 'file:PATH, env:NAME, cred:NAME or prompt.*HSM_PIN_SOURCE' data get note
unset HSM_PIN_SOURCE
HSM_PIN_SOURCE='' says 1 'no PIN source' 'needs its PIN: set .pin-source' -t "$HSM_TOKEN" --config /dev/null data get note
export HSM_PIN_SOURCE=$pin

cp "$token_file" "$work/locked.db"
export HSM_TOKEN=soft:$work/locked.db HSM_PIN_SOURCE=file:$work/wrong
for _ in {1..12}; do hsmctl data get note >"$work/out" 2>"$work/err"; done
export HSM_PIN_SOURCE=$pin
says 1 'locked PIN' 'locked.*unblock' data get note
openssl_says 'locked PIN, openssl' 'locked.*unblock' sign
export HSM_TOKEN=soft:$token_file

# ---- token file --------------------------------------------------------------------------------------------------
missing=soft:$work/none/token.db
HSM_TOKEN=$missing says 1 'token file missing' "$work/none/token.db.*hsmctl token init" key list
HSM_TOKEN=$missing openssl_says 'token file missing, openssl' "$work/none/token.db" sign
ok 'with the token missing, a reference still loads' env "HSM_TOKEN=$missing" openssl pkey -in "$work/web.ref" -pubout
head -c 8192 /dev/urandom >"$work/foreign.db"
cp "$work/foreign.db" "$work/foreign.copy"
HSM_TOKEN=soft:$work/foreign.db says 1 'foreign file' "$work/foreign.db.*(not a|no) token" key list
HSM_TOKEN=soft:$work/foreign.db openssl_says 'foreign file, openssl' "$work/foreign.db" sign
HSM_TOKEN=soft:$work/foreign.db says 1 'foreign file, token init' "$work/foreign.db" token init --generate-pin --pin-file "$work/p"
ok 'the foreign file is left alone' cmp "$work/foreign.db" "$work/foreign.copy"
: >"$work/void.db"
HSM_TOKEN=soft:$work/void.db says 1 'empty file' "$work/void.db" key list
HSM_TOKEN=soft:$work says 1 'a directory' "$work" key list
if command -v sqlite3 >/dev/null; then
    sqlite3 "$work/other.db" 'create table t(x); insert into t values(1)'
    HSM_TOKEN=soft:$work/other.db says 1 'another database' "$work/other.db.*(not a|no) token" key list
fi
HSM_TOKEN=floppy:/dev/fd0 says 1 'unknown driver' "driver 'floppy'" key list
HSM_TOKEN=nonsense says 1 'no token specification' "'nonsense' names no driver.*HSM_TOKEN" key list
HSM_TOKEN=nonsense openssl_says 'no token specification, openssl' "'nonsense' names no driver" --log-only sign

size=$(stat -c %s "$token_file")
head -c $((size / 2)) "$token_file" >"$work/cut.db"
HSM_TOKEN=soft:$work/cut.db says 1 'token file cut in half' "$work/cut.db.*(damage|not a token)" data get note
HSM_TOKEN=soft:$work/cut.db openssl_says 'token file cut in half, openssl' "$work/cut.db" sign
cp "$token_file" "$work/newer.db"
printf '\0\0\0\143' | dd of="$work/newer.db" bs=1 seek=60 conv=notrunc 2>/dev/null # PRAGMA user_version
HSM_TOKEN=soft:$work/newer.db says 1 'token of a newer release' 'newer|version' key list

# One byte inverted at a time: an error in one line, or the right answer, never a crash or another key.
step=512
[ "${HSM_VALGRIND:-0}" = 1 ] && step=16384
public=$(hsmctl key show web --pubout)
flips=0
bad=0
for ((at = 0; at < size; at += step)); do
    offset=$((at + RANDOM % step))
    [ $offset -lt "$size" ] || continue
    cp "$token_file" "$work/flip.db"
    byte=$(od -An -tu1 -j $offset -N 1 "$token_file")
    printf "\\x$(printf %02x $((byte ^ 0xff)))" | dd of="$work/flip.db" bs=1 seek=$offset conv=notrunc 2>/dev/null
    HSM_TOKEN=soft:$work/flip.db hsmctl data get note >"$work/out" 2>"$work/err" </dev/null
    status=$?
    flips=$((flips + 1))
    if [ $status = 0 ]; then
        cmp -s "$work/out" "$work/data" || bad=$((bad + 1))
    elif [ $status != 1 ] || [ "$(wc -l <"$work/err")" != 1 ]; then
        bad=$((bad + 1))
        echo "offset $offset: status $status" && cat "$work/err"
    fi
    shown=$(HSM_TOKEN=soft:$work/flip.db hsmctl key show web --pubout 2>/dev/null) && [ "$shown" != "$public" ] &&
        HSM_TOKEN=soft:$work/flip.db sign hsm:web 2>/dev/null && bad=$((bad + 1)) && echo "offset $offset: another key"
done
same "$flips damaged token files are refused or do no harm" "$bad" 0
unchanged 'damaged copies'

# ---- no room, no right to write ------------------------------------------------------------------------------------
mkdir "$work/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=1m,mode=755 tmpfs "$work/small" 2>/dev/null; then
    mounted+=("$work/small")
    cp "$token_file" "$work/small/token.db"
    chmod 600 "$work/small/token.db"
    dd if=/dev/zero of="$work/small/filler" bs=4096 2>/dev/null
    export HSM_TOKEN=soft:$work/small/token.db
    head -c 200000 /dev/urandom >"$work/big"
    says 1 'disk full, data put' "$work/small/token.db.*(space|full)|(space|full).*$work/small/token.db" data put big "$work/big"
    says 1 'disk full, token init' 'space|full|No space' -t "soft:$work/small/new.db" token init --generate-pin --pin-file "$work/small/pin"
    ok 'disk full, neither token nor PIN file is left' test ! -e "$work/small/new.db" -a ! -s "$work/small/pin"
    unchanged 'disk full'
    rm "$work/small/filler"
    ok 'with room again, it can be written' hsmctl data put big "$work/big"
    ok 'and deleted' hsmctl data delete big --yes
    mount -o remount,ro "$work/small"
    says 1 'read-only file system' "$work/small/token.db.*(read-only|cannot be written)" key generate x --type ec:P-256
    unchanged 'read-only file system'
    openssl_says 'read-only file system, openssl' 'read-only|cannot be written' openssl genpkey -algorithm EC -pkeyopt group:P-256 -propquery provider=hsm -out "$work/x"
    HSM_PIN_SOURCE=file:$work/wrong says 1 'wrong PIN on a read-only token' 'PIN' data get note
else
    echo 'SKIP: no tmpfs can be mounted here: disk full, read-only file system'
fi
export HSM_TOKEN=soft:$token_file
if [ "$(id -u)" != 0 ]; then
    mkdir "$work/ro"
    cp "$token_file" "$work/ro/token.db"
    chmod 400 "$work/ro/token.db"
    chmod 500 "$work/ro"
    HSM_TOKEN=soft:$work/ro/token.db says 1 'read-only token file' "$work/ro/token.db.*(read-only|cannot be written)" key generate x --type ec:P-256
    chmod 000 "$work/ro/token.db"
    HSM_TOKEN=soft:$work/ro/token.db says 1 'token file of somebody else' "$work/ro/token.db.*may not be opened by uid" key list
    chmod 700 "$work/ro"
fi

# ---- objects -----------------------------------------------------------------------------------------------------
says 1 'unknown key' "no key 'nobody' on token 'token'.*hsmctl key list" key show nobody
openssl_says 'unknown key, openssl' 'hsm:object=nobody: no such private key; see .hsmctl key list' sign hsm:nobody
hsmctl key generate gone --type ec:P-256 >"$work/out"
hsmctl key ref gone -o "$work/gone.ref"
hsmctl key delete gone --yes
openssl_says 'reference to a deleted key, openssl' "no key 'gone'" sign "$work/gone.ref"
hsmctl key generate gone --type ec:P-256 >"$work/out"
openssl_says 'reference to a key that was replaced, openssl' "gone.*another key|another key.*gone|other key" sign "$work/gone.ref"
hsmctl key delete gone --yes
openssl_says 'unknown token in the URI, openssl' "'moon'" sign 'hsm:token=moon;object=web'
says 1 'unknown token in the URI' "'moon'" key show 'hsm:token=moon;object=web'

says 1 'usage that the type cannot have' 'x25519 can only be used for derive' key generate bad --type x25519 --usage sign
openssl_says 'usage not allowed, openssl' "decrypts.*(usage|sign|allow)" openssl dgst -sha256 -sign "$work/decrypts.ref" -out "$work/sig" "$work/data"
fails 'wrong key type, openssl' 'error' sign "$work/agree.ref"
soft openssl genpkey -algorithm DSA -genparam -pkeyopt pbits:1024 -out "$work/dsap.pem" 2>/dev/null
soft openssl genpkey -paramfile "$work/dsap.pem" -out "$work/dsa.pem" 2>/dev/null
[ -s "$work/dsa.pem" ] && says 1 'import of a type that hsm does not have' 'type|DSA|not supported' key import bad "$work/dsa.pem"
soft openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$work/rsa1024.pem" 2>/dev/null
says 1 'import of RSA-1024' '1024' key import bad "$work/rsa1024.pem"
soft openssl genpkey -algorithm EC -pkeyopt group:secp224r1 -out "$work/p224.pem" 2>/dev/null
says 1 'import of a curve that hsm does not have' 'curve|not supported' key import bad "$work/p224.pem"

# ---- configuration -----------------------------------------------------------------------------------------------
sed 's/^pin-source/pin_source/' "$OPENSSL_CONF" >"$work/unknown.cnf"
says 1 'unknown configuration key' "key 'pin_source' is not known.*$work/unknown.cnf" --config "$work/unknown.cnf" key list
sed '/^\[hsm_sect\]/a log-level = loud' "$OPENSSL_CONF" >"$work/loud.cnf"
says 1 'unknown value' "log-level = loud.*$work/loud.cnf" --config "$work/loud.cnf" key list
OPENSSL_CONF=$work/loud.cnf openssl_says 'unknown value, openssl' 'log-level = loud' --log-only sign
says 1 'configuration file missing' "$work/nowhere.cnf" --config "$work/nowhere.cnf" key list
echo '[x' >"$work/syntax.cnf"
says 1 'configuration file damaged' "$work/syntax.cnf.*line" --config "$work/syntax.cnf" key list

# ---- URIs --------------------------------------------------------------------------------------------------------
for uri in 'hsm:colour=red' 'hsm:object=a;object=b' 'hsm:object=%zz' 'hsm:object=%00' 'hsm:type=car' 'hsm:object=%ff' \
    'hsm:' "hsm:object=$(printf 'x%.0s' {1..300})" 'hsm:object=web?pin-value=secret-pin&pin-value=x'; do
    says 1 "bad URI ${uri:0:40}" '.' key show "$uri"
    grep -q 'secret-pin' "$work/err" && report 'NOT OK' 'the PIN of a URI is never repeated' "$work/err"
    [ "$uri" = hsm: ] && continue # to openssl that is a listing of the whole token, of which it takes the first key
    fails "bad URI ${uri:0:40}, openssl" 'error|unable|Could not' sign "$uri"
done

# ---- files -------------------------------------------------------------------------------------------------------
soft openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/key.pem" 2>/dev/null
head -c 600 "$work/key.pem" >"$work/cut.pem"
says 1 'truncated PEM' "$work/cut.pem is cut short" key import bad "$work/cut.pem"
soft openssl pkey -in "$work/key.pem" -outform DER -out "$work/key.der"
head -c 600 "$work/key.der" >"$work/cut.der"
says 1 'truncated DER' "$work/cut.der holds no whole private key" key import bad "$work/cut.der"
says 1 'truncated certificate' 'no whole certificate' cert put bad "$work/cut.pem"
lines=$(wc -l <"$work/web.ref")
for ((n = 0; n < lines; n++)); do
    head -n $n "$work/web.ref" >"$work/cut.ref"
    fails "reference cut after line $n, openssl" 'Could not|unable|error|No such' sign "$work/cut.ref"
done
sed '2s/^..../AAAA/' "$work/web.ref" >"$work/damaged.ref"
fails 'damaged reference, openssl' 'Could not|unable|error' sign "$work/damaged.ref"
ref_der() { sed 1d\;\$d "$1" | openssl base64 -d; }
{ echo '-----BEGIN HSM KEY REFERENCE-----'
  { ref_der "$work/web.ref" | head -c -3; } | openssl base64
  echo '-----END HSM KEY REFERENCE-----'; } >"$work/short.ref"
openssl_says 'reference with its DER cut, openssl' 'reference' --log-only sign "$work/short.ref"

unchanged 'all of the above'
finish
