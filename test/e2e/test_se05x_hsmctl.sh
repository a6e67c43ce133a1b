#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hsmctl on a chip: every command against the simulator, applets 3 and 7, with and without a secure channel.
# HSM_VALGRIND=1 or --valgrind runs each call under valgrind.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hsmctl_lib.sh"

need openssl
HSM_SIM=${HSM_SIM:-$HSM_BUILD_DIR/sim/se05x-sim}
[ -x "$HSM_SIM" ] || skip 'there is no simulator in this build'
cd "$work" || exit 1
echo so-pin-0 >sopin
echo so-pin-1 >sopin1
echo second-pin >pin2

# start_chip NAME OPTION...: a simulator at $work/NAME.sock with memory of its own; pid in $started
start_chip()
{
    local name=$1

    shift
    start "$work/$name.log" "$HSM_SIM" --socket "$work/$name.sock" --nvm "$work/$name.nvm" --trace "$work/$name.trace" "$@"
    wait_for 10 grep -q '^ready' "$work/$name.log" && return 0
    report 'NOT OK' "simulator $name" "$work/$name.log"
    finish
}

chip() # NAME [PARAMETERS]: from now on this token, and the PIN file that belongs to it
{
    export HSM_TOKEN=se05x:unix:$work/$1.sock${2:-}
    export HSM_PIN_SOURCE=file:$work/$1.pin
}

output_has() # DESCRIPTION PATTERN
{
    grep -Eq -- "$2" "$work/out" && report ok "$1" || report 'NOT OK' "$1" "$work/out"
}

# sign NAME DIGEST-OPTION...: by the provider, a message of 20 bytes; verified with the public key alone
sign()
{
    local name=$1

    shift
    echo 'a message to be sign' >message
    openssl dgst "$@" -sign "hsm:$name" -out message.sig message &&
        hsmctl key show "$name" --pubout -o message.pub &&
        soft openssl dgst "$@" -verify message.pub -signature message.sig message
}

walk() # NAME APPLET CHANNEL PARAMETERS
{
    local name=$1 applet=$2 channel=$3

    chip "$name" "$4"
    echo "# $name: applet $applet, $channel"
    json 'a chip as it comes is not initialised' '.initialised == false and (.serial | length) > 8' token info
    json 'it says what it is' '.driver == "se05x" and (.model | contains("'"$applet"'"))' token info
    json 'and how it is reached' '.channel == "'"$channel"'"' token info
    json 'token list says so too' '.[0].status == "not initialised"' token list
    says 1 'no key is made before token init' 'token init' key generate early --type ec:P-256
    ok 'token init' hsmctl token init --label "$name" --generate-pin --so-pin-source "file:$work/sopin"
    says 1 'a second one needs --force' 'exists|force' token init --label x --generate-pin --pin-file "$work/$name.pin3"
    json 'token info' '.initialised and .label == "'"$name"'" and .machine_pin and (.no_pin | not) and .pin_tries_left == .pin_tries_max' token info

    ok 'key generate EC' hsmctl key generate web --type ec:P-256
    output_has 'prints the URI' '^hsm:object=web;type=private$'
    says 1 'a taken name is not used twice' 'exists' key generate web --type ec:P-256
    ok 'key generate RSA' hsmctl key generate rsa --type rsa:2048
    ok 'key generate with a usage and an id' hsmctl key generate narrow --type ec:P-384 --usage sign --id 0102
    json 'both are kept' '.usage == "sign" and .id == "0102" and .origin == "generated"' key show narrow
    says 1 'a type that no chip has' 'ed448' key generate odd --type ed448
    says 1 'a key never leaves the chip' 'extractable' key generate leaving --type ec:P-256 --extractable
    json 'key list' 'map(.label) - ["web", "rsa", "narrow"] | length == 0 or all(.[]; . != "leaving")' key list
    ok 'listing needs no PIN' hsmctl --pin-source "file:$work/nowhere" key show web
    ok 'an EC signature' sign web -sha256
    ok 'an RSA signature, PKCS#1' sign rsa -sha256
    ok 'an RSA signature, PSS' sign rsa -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest
    ok 'an RSA signature with SHA-512' sign rsa -sha512
    soft openssl ecparam -name prime256v1 -genkey -noout -out "$name.pem"
    ok 'key import' hsmctl key import imported "$name.pem"
    json 'it says so' '.origin == "imported"' key show imported
    ok 'and signs' sign imported -sha256

    ok 'key attest' hsmctl key attest web --challenge 000102030405060708090a0b0c0d0e0f -o "$name.proof"
    output_has 'the signature is right' '^signature_valid +yes$'
    output_has 'it answers the challenge' '^challenge_valid +yes$'
    output_has 'it speaks of this key' '^key_valid +yes$'
    output_has 'which was made in the chip' '^origin +generated$'
    ok 'the proof is a file' grep -q '"message"' "$name.proof"
    json 'key attest as JSON' '.signature_valid and .challenge_valid and .key_valid and .origin == "generated"' key attest rsa
    fails 'an imported key is found out' 'not made in the token' hsmctl key attest imported
    fails 'a foreign CA did not sign this chip' 'does not lead to that CA' hsmctl key attest web --ca "$work/ca.pem"

    ok 'counter create' hsmctl counter create boots --value 5
    ok 'counter increment' hsmctl counter increment boots
    same 'prints the new value' "$(cat "$work/out")" 6
    ok 'counter get needs no PIN' hsmctl --pin-source "file:$work/nowhere" counter get boots
    same 'and prints it' "$(cat "$work/out")" 6
    json 'counter list' '. == [{"label": "boots", "value": 6}]' counter list
    ok 'counter delete' hsmctl counter delete boots --yes

    soft openssl req -x509 -key "$name.pem" -subj /CN=chip -days 30 -out "$name.crt" 2>/dev/null
    head -c 3000 /dev/urandom >blob
    ok 'cert put' hsmctl cert put web "$name.crt"
    ok 'cert get' hsmctl cert get web -o got.crt
    ok 'is what was put' cmp "$name.crt" got.crt
    ok 'data put' hsmctl data put blob blob
    ok 'data get' hsmctl data get blob -o got.blob
    ok 'is what was put' cmp blob got.blob
    ok 'data delete' hsmctl data delete blob --yes
    ok 'random numbers' hsmctl random 2000 -o random.bin
    same 'as many as asked for' "$(stat -c %s random.bin)" 2000

    ok 'a protected key' hsmctl key generate kept --type ec:P-256 --protect
    ok 'it signs' sign kept -sha256
    fails 'its user cannot delete it' '.' hsmctl key delete kept --yes
    ok 'the SO can' hsmctl key delete kept --yes --so-pin-source "file:$work/sopin"
    says 1 'and it is gone' "no key 'kept'" key show kept
    ok 'key delete' hsmctl key delete narrow --yes
    says 1 'and it is gone' "no key 'narrow'" key show narrow

    ok 'pin change' hsmctl pin change --new-pin-source "file:$work/pin2"
    fails 'the old PIN is refused' 'wrong PIN' hsmctl key generate x --type ec:P-256
    ok 'the new one is not' hsmctl --pin-source "file:$work/pin2" key generate x --type ec:P-256
    ok 'pin unblock' hsmctl pin unblock --so-pin-source "file:$work/sopin" --generate-pin
    ok 'and the PIN file is right again' hsmctl key delete x --yes
    ok 'pin change --so' hsmctl pin change --so --so-pin-source "file:$work/sopin" --new-pin-source "file:$work/sopin1"
    fails 'the old SO PIN is refused' 'SO PIN' hsmctl pin unblock --so-pin-source "file:$work/sopin" --generate-pin

    ok 'se05x info' hsmctl se05x info
    output_has 'names the applet' "$applet"
    ok 'se05x identify' hsmctl se05x identify
    ok 'se05x objects' hsmctl se05x objects
    output_has 'lists what the maker put there' '(7fff0206|7FFF0206)'
    json 'as JSON' 'length > 3 and all(.[]; type == "string")' se05x objects
    ok 'se05x stats' hsmctl se05x stats
    ok 'se05x reset' hsmctl se05x reset
    ok 'the keys are still there' sign web -sha256
    ok 'selftest' hsmctl selftest
    doctor "$name" "$channel"

    ok 'token init --force' hsmctl token init --force --label again --no-pin --so-pin-source "file:$work/sopin"
    json 'without a PIN' '.no_pin and .label == "again"' token info
    ok 'all keys are gone' not hsmctl key show web
    unset HSM_PIN_SOURCE
    ok 'a key is made without a PIN' hsmctl key generate open --type ec:P-256
    ok 'and signs without one' sign open -sha256
}

doctor() # NAME CHANNEL
{
    sed -e "s|^token = .*|token = $HSM_TOKEN|; s|^pin-source = .*|pin-source = $HSM_PIN_SOURCE|" "$OPENSSL_CONF" >"$1.cnf"
    hsmctl --config "$1.cnf" doctor >"$work/out" 2>"$work/err" </dev/null
    output_has 'doctor: who may open the bus' "^(ok|warn) +chip-node .*$1.sock"
    output_has 'doctor: the chip answers' '^ok +chip .*answers'
    output_has 'doctor: the parameters are known' '^ok +chip-spec '
    case $2 in
    *public*) output_has 'doctor warns of public keys' '^warn +chip .*PUBLISHED.*rotate-keys' ;;
    *) output_has 'doctor speaks of the bus in clear' '^ok +chip .*without a secure channel' ;;
    esac
    HSM_TOKEN=$HSM_TOKEN${2:+}$([[ $HSM_TOKEN == *\?* ]] && echo '&' || echo '?')speed=9 \
        hsmctl --config "$1.cnf" doctor >"$work/out" 2>"$work/err" </dev/null
    output_has 'doctor finds an unknown parameter' "^fail +chip-spec .*'speed'"
}

rotate() # NAME
{
    local keys=$work/$1.keys

    chip "$1" '?scp03=public'
    says 1 'rotate-keys asks' 'give --yes' --notty se05x rotate-keys "$keys"
    ok 'and has written nothing' test ! -e "$keys"
    chip "$1"
    fails 'it needs the present keys' 'scp03' hsmctl se05x rotate-keys "$keys" --yes
    ok 'and has written nothing' test ! -e "$keys"
    chip "$1" '?scp03=public'
    ok 'rotate-keys' hsmctl se05x rotate-keys "$keys" --yes
    output_has 'says where they are' "$keys"
    same 'for their owner only' "$(stat -c %a "$keys")" 600
    fails 'the old keys are refused' 'key' hsmctl token info
    chip "$1" "?scp03=$keys"
    json 'the new ones open the channel' '.channel == "scp03"' token info
    ok 'everything works with them' hsmctl random 32 -o random.bin
    chmod 0644 "$keys"
    fails 'a key file that others may read is refused' 'chmod' hsmctl token info
    chmod 0600 "$keys"
}

make_ca
for applet in 3.1.1 7.2.0; do
    start_chip "plain-$applet" --applet "$applet"
    walk "plain-$applet" "$applet" plain ''
    stop "$started"
    start_chip "secure-$applet" --applet "$applet"
    walk "secure-$applet" "$applet" 'scp03 (public keys)' '?scp03=public'
    rotate "secure-$applet"
    stop "$started"
done

# ---- nobody there ------------------------------------------------------------------------------------------------
chip nowhere
says 1 'a bus that is not there' 'nowhere.sock' token info
export HSM_TOKEN=se05x:/dev/i2c-no-such-bus
says 1 'a device that is not there' 'i2c-no-such-bus' token info
says 1 'a bus to scan that is not there' 'i2c-no-such-bus' bus scan /dev/i2c-no-such-bus
finish
