#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hsmctl: every command, what it prints, its exit codes. HSM_VALGRIND=1 or --valgrind runs each call under valgrind.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hsmctl_lib.sh"

need openssl
make_token board
token_pin=$HSM_PIN_SOURCE

# ---- command line ------------------------------------------------------------------------------------------------
ok 'help is printed' hsmctl --help
ok 'help of a group is printed' hsmctl key --help
ok 'help of a command is printed' hsmctl key generate --help
ok 'the version is printed' hsmctl --version
says 2 'no command is a usage error' 'no command'
says 2 'an unknown command is a usage error' "unknown command 'frob'" frob
says 2 'an unknown word of a group is a usage error' "unknown command 'key frob'" key frob
says 2 'an unknown option is a usage error' 'unknown option --frob' key list --frob
says 2 'an option of another command is a usage error' 'unknown option --type' key list --type rsa:2048
says 2 'a missing argument is a usage error' 'too few arguments' key show
says 2 'an argument too much is a usage error' 'too many arguments' key show a b
says 2 'an option without its value is a usage error' 'needs a value' key generate a --type
says 2 'a key without --type is a usage error' 'needs --type' key generate a
says 2 'an unknown key type is a usage error' "key type 'dsa:1024' is not known" key generate a --type dsa:1024
says 2 'RSA-1024 is refused with the reason' '1024 bits is refused' key generate a --type rsa:1024
says 2 'an unknown usage is a usage error' 'fly' key generate a --type ec:P-256 --usage fly
says 2 'an odd id is a usage error' 'hexadecimal' key generate a --type ec:P-256 --id 123
says 2 'a name with a line end is a usage error' 'control character' key generate $'a\nb' --type ec:P-256
says 2 'a name that is not UTF-8 is a usage error' 'not valid UTF-8' key generate $'a\xff' --type ec:P-256
says 2 'an empty name is a usage error' '1 to 255 bytes' key generate '' --type ec:P-256
says 2 'a name of 256 bytes is a usage error' '1 to 255 bytes' key generate "$(printf 'x%.0s' {1..256})" --type ec:P-256
says 1 'output that cannot be written is an error' 'standard output' --full token info

# ---- token -------------------------------------------------------------------------------------------------------
same 'the PIN file is for its owner only' "$(stat -c %a "${token_pin#file:}")" 600
same 'the PIN file holds 64 digits and a line end' "$(stat -c %s "${token_pin#file:}")" 65
ok 'token info' hsmctl token info
json 'token info as JSON' '.label == "board" and .machine_pin and .pin_locked == false' token info
json 'with what is behind it' '.initialised and (.no_pin | not) and .channel == null and (.model | startswith("software"))' token info
json 'token list as JSON' 'length == 1 and .[0].status == "ok"' token list
says 1 'a token is not replaced without --force' 'exists' token init --label x --generate-pin
cp "${token_pin#file:}" "$work/pin.before"
says 1 'a PIN file is not overwritten' 'PIN file .* exists' -t "soft:$work/other.db" token init --generate-pin
ok 'and is as it was' cmp "$work/pin.before" "${token_pin#file:}"
says 1 'a directory whose parent is missing is not made' 'above it is missing' \
    -t "soft:$work/a/b/c/token.db" token init --generate-pin --pin-file "$work/newpin"
ok 'and no PIN file is left behind' test ! -e "$work/newpin"
echo 'not a token' >"$work/foreign.db"
says 1 'a token that cannot be made' "$work/foreign.db" -t "soft:$work/foreign.db" token init --generate-pin --pin-file "$work/newpin"
ok 'takes its PIN file along' test ! -e "$work/newpin"
ok 'and leaves the foreign file alone' grep -qx 'not a token' "$work/foreign.db"
ok 'the last directory of token and PIN file is made' \
    hsmctl -t "soft:$work/made/token.db" token init --generate-pin --pin-file "$work/made2/pin"
grep -Eq 'SO PIN.*: [0-9A-Z]{5}(-[0-9A-Z]{5}){4}$' "$work/out" && result=ok || result='NOT OK'
report $result 'an SO PIN is made and printed' "$work/out"
says 2 '--generate-pin needs a file' 'needs a file' \
    -t "soft:$work/made/token.db" --pin-source env:X token init --force --generate-pin
ok 'with --force the token is replaced' \
    hsmctl -t "soft:$work/made/token.db" token init --force --generate-pin --pin-file "$work/made2/pin"
ok 'and its new PIN is right' \
    hsmctl -t "soft:$work/made/token.db" --pin-source "file:$work/made2/pin" key generate k --type ec:P-256
says 1 'a software token cannot be without a PIN' 'cannot be without a PIN.*--generate-pin' -t "soft:$work/m.db" token init --no-pin
ok 'and is not made' test ! -e "$work/m.db"
says 2 '--no-pin and --generate-pin do not go together' 'goes neither' -t "soft:$work/m.db" token init --no-pin --generate-pin
says 2 'a mode for everybody is refused' 'let everybody' -t "soft:$work/m.db" token init --generate-pin --pin-file "$work/m" --mode 0644
says 2 'an unknown group is a usage error' 'no group' -t "soft:$work/m.db" token init --generate-pin --pin-file "$work/m" --group no-such-group
says 2 'a KDF size out of bounds is a usage error' '1M to 1G' -t "soft:$work/m.db" token init --generate-pin --pin-file "$work/m" --kdf-memory 1K
if [ "$(id -u)" = 0 ] && getent group www-data >/dev/null; then
    ok 'token and PIN file for a group' \
        hsmctl -t "soft:$work/group/t.db" token init --generate-pin --pin-file "$work/group/pin" --group www-data
    same 'the token file belongs to it' "$(stat -c '%a %G' "$work/group/t.db")" '640 www-data'
    same 'the PIN file belongs to it' "$(stat -c '%a %G' "$work/group/pin")" '640 www-data'
fi

# ---- keys --------------------------------------------------------------------------------------------------------
for type in ec:P-256 ec:P-384 ec:P-521 ec:secp256k1 ec:brainpoolP256r1 ec:brainpoolP384r1 ed25519 ed448 x25519 x448 rsa:2048; do
    ok "key generate $type" hsmctl key generate "k-$type" --type "$type"
    same "key generate $type prints the URI" "$(cat "$work/out")" "hsm:object=k-${type/:/%3A};type=private"
    json "key show k-$type" ".type == \"$type\" and .origin == \"generated\" and .extractable == false" key show "k-$type"
    ok "public key of $type is written" hsmctl key show "k-$type" --pubout -o "$work/pub.pem"
    ok "and OpenSSL reads it" soft openssl pkey -pubin -in "$work/pub.pem" -noout
done
says 1 'a taken name is not overwritten' 'exists|taken' key generate k-ed25519 --type ed25519
ok 'a name may be any text' hsmctl key generate 'Schlüssel 1/; "x" %' --type ed25519
json 'and is found again' '.label == "Schlüssel 1/; \"x\" %"' key show 'Schlüssel 1/; "x" %'
uri=$(hsmctl --json key show 'Schlüssel 1/; "x" %' | sed -n 's/^ *"uri":"\(.*\)",\{0,1\}$/\1/p')
ok 'also by its URI' hsmctl key show "$uri"
ok 'id and usage are taken' hsmctl key generate limited --type rsa:2048 --id 00fF10 --usage decrypt
json 'and shown' '.id == "00ff10" and .usage == "decrypt"' key show limited
ok 'a key is found by its id' hsmctl key show 'hsm:id=%00%FF%10'
says 1 'an unknown key says where to look' "no key 'nobody'.*hsmctl key list" key show nobody
says 1 'a URI of another type is refused' 'another type' key show 'hsm:object=limited;type=cert'
says 1 'a damaged URI is refused' 'hsm:colour=red|colour' key show 'hsm:colour=red'
json 'key list as JSON' 'length == 13 and all(.[]; .id != "")' key list
ok 'key list as a table' hsmctl key list
grep -Eq '^limited +rsa:2048 +decrypt +no +generated ' "$work/out" && result=ok || result='NOT OK'
report $result 'with a line per key' "$work/out"
ok 'listing needs no PIN' hsmctl --pin-source "file:$work/nowhere" key list

ok 'key ref' hsmctl key ref k-ec:P-256 -o "$work/ref.pem"
same 'it is a PEM reference' "$(head -1 "$work/ref.pem")" '-----BEGIN HSM KEY REFERENCE-----'
ok 'its DER is well-formed' soft openssl asn1parse -in "$work/ref.pem"
grep -q 'UTF8STRING *:hsm:object=k-ec%3AP-256;type=private' "$work/out" && result=ok || result='NOT OK'
report $result 'and holds the URI' "$work/out"
hsmctl key show k-ec:P-256 --pubout >"$work/pub.pem"
same 'the provider reads it, with the same public key' "$(openssl pkey -in "$work/ref.pem" -pubout 2>"$work/err")" "$(cat "$work/pub.pem")"

# ---- import ------------------------------------------------------------------------------------------------------
imports=0
import() # DESCRIPTION PUBLIC-KEY-FILE ARGUMENT...
{
    local description=$1 public=$2

    shift 2
    imports=$((imports + 1))
    ok "import: $description" hsmctl key import "i$imports" "$@"
    same 'its public key is the same' "$(hsmctl key show "i$imports" --pubout 2>&1)" "$(cat "$public")"
}

cd "$work" || exit 1
soft openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null ||
    soft openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null
soft openssl pkey -in rsa.pem -pubout -out rsa.pub
soft openssl ecparam -name prime256v1 -genkey -out ec-params.pem # EC PARAMETERS, then EC PRIVATE KEY
soft openssl pkey -in ec-params.pem -pubout -out ec.pub
soft openssl genpkey -algorithm ED25519 -out ed.pem
soft openssl pkey -in ed.pem -pubout -out ed.pub
soft openssl pkcs8 -topk8 -in rsa.pem -out rsa-enc.pem -passout pass:secret
soft openssl pkcs8 -topk8 -in ec-params.pem -outform DER -out ec-enc.der -passout pass:secret
soft openssl rsa -in rsa.pem -traditional -aes128 -out rsa-trad-enc.pem -passout pass:secret 2>/dev/null
soft openssl rsa -in rsa.pem -traditional -out rsa-trad.pem 2>/dev/null
soft openssl pkey -in rsa.pem -outform DER -out rsa.der
soft openssl ec -in ec-params.pem -outform DER -out ec-trad.der 2>/dev/null
echo secret >pass
echo sekret >wrongpass
import 'PKCS#8 PEM' rsa.pub rsa.pem
import 'PKCS#8 DER' rsa.pub rsa.der
import 'traditional RSA' rsa.pub rsa-trad.pem
import 'traditional EC with its parameters before it' ec.pub ec-params.pem
import 'traditional EC, DER' ec.pub ec-trad.der
import 'Ed25519' ed.pub ed.pem
import 'encrypted PKCS#8 PEM, passphrase from a file' rsa.pub rsa-enc.pem --passin file:pass
export PASSPHRASE=secret
import 'encrypted PKCS#8 DER, passphrase from the environment' ec.pub ec-enc.der --passin env:PASSPHRASE
import 'encrypted traditional PEM' rsa.pub rsa-trad-enc.pem --passin file:pass
ok 'import from standard input' hsmctl_stdin rsa.pem key import from-stdin -
json 'an imported key says so' '.origin == "imported"' key show i1
says 1 'a wrong passphrase is said' 'wrong passphrase' key import bad rsa-enc.pem --passin file:wrongpass
says 1 'a public key is no private key' 'holds no whole private key' key import bad rsa.pub
says 1 'a reference is no private key' 'reference to a key that is in a token already' key import bad "$work/ref.pem"
says 1 'a missing file is said' 'nowhere.pem.*No such file' key import bad nowhere.pem
says 1 'a directory is no file' 'Is a directory' key import bad "$work"
says 1 'an endless file is bounded' 'too big' key import bad /dev/zero
says 1 'an empty file is said' 'is empty' key import bad /dev/null

# ---- export ------------------------------------------------------------------------------------------------------
says 2 'export without --passout or --plain is a usage error' '--passout SOURCE .* --plain' key export i1
says 1 'a key is not exportable unless asked for at its birth' 'may not leave the token' key export i1 --plain
ok 'an extractable key' hsmctl key import out rsa.pem --extractable
ok 'export, encrypted' hsmctl key export out --passout file:pass -o out.pem
same 'for its owner only' "$(stat -c %a out.pem)" 600
same 'it is the same key' "$(soft openssl pkey -in out.pem -passin pass:secret -pubout 2>&1)" "$(cat rsa.pub)"
ok 'export, plain, to standard output' hsmctl key export out --plain
same 'it is the same key' "$(soft openssl pkey -in "$work/out" -pubout 2>&1)" "$(cat rsa.pub)"
ok 'an extractable generated key' hsmctl key generate outgen --type ed25519 --extractable
ok 'export of it' hsmctl key export outgen --plain -o outgen.pem
same 'it is the same key' "$(soft openssl pkey -in outgen.pem -pubout 2>&1)" "$(hsmctl key show outgen --pubout)"

# ---- certificates and data ---------------------------------------------------------------------------------------
soft openssl req -x509 -key rsa.pem -subj '/CN=Example, Inc./O=Grüße' -utf8 -days 30 -out cert.pem 2>/dev/null
soft openssl x509 -in cert.pem -outform DER -out cert.der
ok 'cert put' hsmctl cert put web cert.pem
ok 'cert get' hsmctl cert get web -o got.pem
ok 'is what was put' cmp <(soft openssl x509 -in cert.pem -outform DER) <(soft openssl x509 -in got.pem -outform DER)
ok 'cert put DER' hsmctl cert put web2 cert.der --id 0102
ok 'cert get --der' hsmctl cert get web2 --der -o got.der
ok 'is what was put' cmp cert.der got.der
json 'cert list' 'length == 2 and (.[0].subject | contains("Grüße")) and .[1].id == "0102"' cert list
ok 'cert list as a table' hsmctl cert list
cat cert.pem cert.pem >two.pem
says 1 'two certificates do not fit under one name' 'more than one certificate' cert put bad two.pem
says 1 'a key is no certificate' 'no whole certificate' cert put bad rsa.pem
says 1 'a taken name is not overwritten' 'exists|taken' cert put web cert.pem
says 1 'an unknown certificate is said' "no certificate 'nobody'" cert get nobody
ok 'cert delete' hsmctl cert delete web --yes
says 1 'and it is gone' "no certificate 'web'" cert get web
head -c 70000 /dev/urandom >blob
printf 'a\0b\n' >small
ok 'data put' hsmctl data put blob blob
ok 'data put, short and binary' hsmctl data put small small
ok 'data get' hsmctl data get blob -o got.blob
ok 'is what was put' cmp blob got.blob
same 'for its owner only' "$(stat -c %a got.blob)" 600
ok 'data get to standard output' hsmctl data get small
cp "$work/out" got.small
ok 'is what was put' cmp small got.small
json 'data list' 'map(.size) | sort == [4, 70000]' data list
says 1 'data needs the PIN' 'No such file|cannot' --pin-source "file:$work/nowhere" data get small
head -c 1048577 /dev/zero >huge
says 1 'data beyond 1 MiB is refused' 'too big' data put huge huge
ok 'data delete' hsmctl data delete small --yes
says 1 'and it is gone' "no data object 'small'" data get small
ok 'output through a FIFO or device' hsmctl data get blob -o /dev/null
says 1 'output into a missing directory is an error' 'cannot write' data get blob -o "$work/nowhere/x"

# ---- counters ----------------------------------------------------------------------------------------------------
ok 'counter create' hsmctl counter create boots
ok 'counter create with a value' hsmctl counter create serial --value 18446744073709551614
ok 'counter get' hsmctl counter get boots
same 'it begins with 0' "$(cat "$work/out")" 0
ok 'counter increment' hsmctl counter increment boots
same 'prints the new value' "$(cat "$work/out")" 1
ok 'counter increment again' hsmctl counter increment serial
same 'up to the last number' "$(cat "$work/out")" 18446744073709551615
says 1 'a counter at its end does not wrap' "counter 'serial'.*does not wrap" counter increment serial
ok 'reading needs no PIN' hsmctl --pin-source "file:$work/nowhere" counter get boots
same 'and gives the value' "$(cat "$work/out")" 1
says 1 'counting does' 'No such file|cannot' --pin-source "file:$work/nowhere" counter increment boots
json 'counter list' 'map(.label) == ["boots", "serial"] and .[0].value == 1' counter list
json 'counter get as JSON' '.label == "boots" and .value == 1' counter get 'hsm:object=boots;type=counter'
ok 'counter list as a table' hsmctl counter list
grep -Eq '^serial +18446744073709551615$' "$work/out" && result=ok || result='NOT OK'
report $result 'with a line per counter' "$work/out"
says 1 'a taken name is not used twice' 'exists' counter create boots
says 2 'a value that is no number is a usage error' 'whole number' counter create x --value many
says 2 'a negative value is a usage error' 'whole number' counter create x --value=-1
says 2 'a value beyond 64 bits is a usage error' 'whole number' counter create x --value 18446744073709551616
says 1 'an unknown counter is said' "no counter 'nobody'" counter get nobody
says 1 'a key is no counter' "no counter 'limited'" counter get limited
ok 'counter delete' hsmctl counter delete serial --yes
says 1 'and it is gone' "no counter 'serial'" counter get serial
( for _ in 1 2 3 4 5; do hsmctl counter increment boots; done >"$work/count.1" 2>&1 ) &
for _ in 1 2 3 4 5; do hsmctl counter increment boots; done >"$work/count.2" 2>&1
wait
same 'two processes never get the same number' "$(sort -n "$work/count.1" "$work/count.2" | tr '\n' ' ')" '2 3 4 5 6 7 8 9 10 11 '

# ---- what only a chip can do -------------------------------------------------------------------------------------
says 1 'a file cannot protect a key from its user' "'guarded'.*--protect" key generate guarded --type ec:P-256 --protect
says 1 'nor prove where a key comes from' 'soft.*prove' key attest limited
says 2 'a challenge has 16 bytes' '16 bytes' key attest limited --challenge 0102
says 1 'a software token is no chip' 'not an SE05x chip' se05x info
says 1 'and has no platform keys' 'not an SE05x chip' se05x rotate-keys "$work/new.keys" --yes
ok 'nothing was written' test ! -e "$work/new.keys"
says 1 'a file is no bus' '/dev/null is no I2C bus' bus scan /dev/null
says 1 'a bus that is not there is said' 'i2c-none: No such file' bus scan /dev/i2c-none

# ---- deleting asks -----------------------------------------------------------------------------------------------
says 1 'without a terminal, --yes is needed' 'give --yes' --notty key delete i2
ok 'and the key is still there' hsmctl key show i2
ok 'key delete --yes' hsmctl key delete i2 --yes
says 1 'and it is gone' "no key 'i2'" key show i2

# ---- random ------------------------------------------------------------------------------------------------------
ok 'random bytes' hsmctl random 5000
same 'as many as asked for' "$(stat -c %s "$work/out")" 5000
ok 'random bytes in hexadecimal' hsmctl random 5000 --hex
same 'as many as asked for' "$(tr -d '\n' <"$work/out" | grep -Ec '^[0-9a-f]{10000}$')" 1
ok 'random bytes into a file' hsmctl random 33 -o random.bin
same 'as many as asked for' "$(stat -c %s random.bin)" 33
says 2 'no number is a usage error' 'whole number' random many
says 2 'zero is a usage error' 'whole number' random 0
says 2 'a negative number is a usage error' '' random -5
says 1 'a full device is an error' 'standard output' --full random 100000

# ---- PINs --------------------------------------------------------------------------------------------------------
echo first-pin >pin1
echo second-pin >pin2
echo so-pin-0 >sopin
echo so-pin-1 >sopin1
person=(-t "soft:$work/person.db" --pin-source "file:$work/pin1")
ok 'a token with a PIN of a person' hsmctl "${person[@]}" token init --label person --so-pin-source "file:$work/sopin" --kdf-memory 1M --pin-tries 3
ok 'its key' hsmctl "${person[@]}" key generate k --type ec:P-256
json 'its PIN is not machine-made' '.machine_pin == false and .pin_tries_max == 3' "${person[@]}" token info
ok 'pin change' hsmctl "${person[@]}" pin change --new-pin-source "file:$work/pin2"
grep -q "put the new one there" "$work/out" && result=ok || result='NOT OK'
report $result 'reminds of the configured source' "$work/out"
says 1 'the old PIN is refused, with the tries left' '2 .*(left|tries)|tries.* 2' "${person[@]}" key generate k2 --type ec:P-256
person=(-t "soft:$work/person.db" --pin-source "file:$work/pin2")
ok 'the new one works, with the old key' hsmctl "${person[@]}" key generate k2 --type ec:P-256
json 'and clears the counter' '.pin_tries_left == 3' "${person[@]}" token info
wrong=(-t "soft:$work/person.db" --pin-source "file:$work/pin1")
for _ in 1 2 3; do hsmctl "${wrong[@]}" key generate x --type ec:P-256 >/dev/null 2>&1; done
says 1 'the PIN is locked after the last try' 'locked.*hsmctl pin unblock|unblock' "${person[@]}" key generate x --type ec:P-256
json 'token info says so' '.pin_locked' "${person[@]}" token info
says 1 'a wrong SO PIN does not unblock' 'SO PIN|wrong PIN' "${person[@]}" pin unblock --so-pin-source "file:$work/pin1" --new-pin-source "file:$work/pin1"
ok 'pin unblock' hsmctl "${person[@]}" pin unblock --so-pin-source "file:$work/sopin" --new-pin-source "file:$work/pin1"
ok 'the new PIN works' hsmctl "${wrong[@]}" key generate k3 --type ec:P-256
ok 'pin change --so' hsmctl "${wrong[@]}" pin change --so --so-pin-source "file:$work/sopin" --new-pin-source "file:$work/sopin1"
says 1 'the old SO PIN is refused' 'PIN' "${wrong[@]}" pin init --so-pin-source "file:$work/sopin" --new-pin-source "file:$work/pin2"
ok 'pin init with the new one' hsmctl "${wrong[@]}" pin init --so-pin-source "file:$work/sopin1" --new-pin-source "file:$work/pin2"
ok 'pin change to a machine PIN' hsmctl "${person[@]}" pin change --generate-pin
json 'is marked as such' '.machine_pin' "${person[@]}" token info
same 'and stands in the file' "$(grep -Ec '^[0-9a-f]{64}$' pin2)" 1
ok 'from where it works' hsmctl "${person[@]}" key generate k4 --type ec:P-256
printf 'abc\n' >short
says 1 'too short a PIN is refused' 'PIN|4' "${person[@]}" pin change --new-pin-source "file:$work/short"
says 2 '--generate-pin and --so do not go together' 'goes neither' "${person[@]}" pin change --so --generate-pin

# ---- several tokens ----------------------------------------------------------------------------------------------
sed -e '/^token = /d' -e '/^pin-source = /d' -e "/^\[hsm_sect\]/a tokens = board back-up\ntoken.board = $HSM_TOKEN\npin-source.board = $token_pin\ntoken.back-up = soft:$work/made/token.db\npin-source.back-up = file:$work/made2/pin" \
    "$OPENSSL_CONF" >several.cnf
board_token=$HSM_TOKEN
unset HSM_TOKEN HSM_PIN_SOURCE
ok 'several tokens are listed' hsmctl --config several.cnf token list
json 'with their names' 'map(.name) == ["board", "back-up"] and all(.[]; .status == "ok")' --config several.cnf token list
ok 'one is chosen by its name' hsmctl --config several.cnf -t back-up key generate second --type ec:P-256
same 'and stands in the URI' "$(cat "$work/out")" 'hsm:token=back-up;object=second;type=private'
ok 'or in the URI' hsmctl --config several.cnf key show 'hsm:token=back-up;object=second'
ok 'or by its label' hsmctl --config several.cnf key show 'hsm:token=board;object=limited'
says 1 'an unknown name is said' "no token named 'third'" --config several.cnf -t third key list
ok '-t wins over the configuration' hsmctl --config several.cnf -t "$board_token" key show limited
export HSM_TOKEN=$board_token HSM_PIN_SOURCE=$token_pin
ok '-t wins over the environment' hsmctl -t "soft:$work/made/token.db" key show second

# ---- at a terminal -----------------------------------------------------------------------------------------------
if command -v expect >/dev/null; then
    export hsmctl_path=$HSM_BUILD_DIR/tools/hsmctl
    cat >prompt.exp <<'END'
set timeout 20
log_user 1
proc must {text} {
    expect -ex $text {} timeout { puts "no '$text'"; exit 3 } eof { puts "ended before '$text'"; exit 4 }
}
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db --pin-source prompt token init
must "New PIN: "; send "tty-secret-1\r"; must "once more: "; send "tty-secret-1\r"
expect eof; lassign [wait] _ _ _ code; if {$code != 0} { exit $code }
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db --pin-source prompt key generate k --type ec:P-256
must "PIN of token 'token': "; send "tty-secret-1\r"
expect eof; lassign [wait] _ _ _ code; if {$code != 0} { exit $code }
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db key delete k
must {[y/N]}; send "n\r"
expect eof; lassign [wait] _ _ _ code; if {$code != 1} { exit 5 }
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db --pin-source prompt key delete k
must {[y/N]}; send "y\r"
must "PIN of token 'token': "; send "tty-secret-1\r"
expect eof; lassign [wait] _ _ _ code; if {$code != 0} { exit 6 }
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db random 4
must "garble the terminal"
expect eof; lassign [wait] _ _ _ code; if {$code != 2} { exit 7 }
END
    cat >signal.exp <<'END'
set timeout 20
spawn $env(hsmctl_path) -t soft:$env(work)/tty.db --pin-source prompt pin change
set tty $spawn_out(slave,name)
expect "PIN of token" {} timeout { exit 3 }
if {![regexp { -echo } [exec sh -c "stty -a <$tty"]]} { exit 6 }
set holder [exec sleep 30 <$tty &]
send "\003"
set result [wait]
set after [exec sh -c "stty -a <$tty"]
exec kill $holder
if {[lindex $result 5] ne "SIGINT"} { exit 4 }
if {![regexp { echo } $after]} { exit 5 }
END
    export work
    ok 'at a terminal: PIN asked twice, PIN asked, deletion asked' timeout -k 5 90 expect prompt.exp
    grep -q tty-secret "$work/out" && result='NOT OK' || result=ok
    report $result 'the PIN is never echoed' "$work/out"
    ok 'Ctrl-C at the PIN prompt leaves a sane terminal' timeout -k 5 60 expect signal.exp
fi

# ---- selftest ----------------------------------------------------------------------------------------------------
before=$(hsmctl key list)
ok 'selftest' hsmctl selftest
same 'selftest leaves nothing behind' "$(hsmctl key list)" "$before"
json 'selftest as JSON' 'all(.[]; .result == "ok" or .result == "skipped")' selftest

finish
