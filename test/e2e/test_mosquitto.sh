#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# mosquitto as the distribution ships it: the broker's key in the token, clients with keys in the token, mutual TLS.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need mosquitto mosquitto_pub mosquitto_sub openssl perl
PATH=$PATH:/usr/sbin

if [ "$(id -u)" -eq 0 ]; then
    user=mosquitto # the broker drops root before it reads its key
    make_token token --group mosquitto
else
    user=$(id -un)
    make_token
fi
make_ca
for key in broker=ec:P-256 broker-new=ec:P-256 client-ec=ec:P-256 client-rsa=rsa:2048 client-ed=ed25519; do
    make_key "${key%%=*}" "${key#*=}"
    issue "${key%%=*}" "$work/${key%%=*}.ref" "${key%%=*}"
done
soft openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/client-file.ref"
issue client-file "$work/client-file.ref" client-file
cp "$work/broker.ref" "$work/server.key"
cp "$work/broker.crt" "$work/server.crt"

run_broker() # PORT
{
    cat >"$work/mosquitto.conf" <<-END
		user $user
		log_dest stderr
		log_type all
		persistence false
		allow_anonymous true
		listener $1 127.0.0.1
		cafile $work/ca.pem
		certfile $work/server.crt
		keyfile $work/server.key
		require_certificate true
		use_identity_as_username true
	END
    exec mosquitto -c "$work/mosquitto.conf"
}

client() # PROGRAM NAME OPTION...
{
    local program=$1 name=$2

    shift 2
    timeout 20 "$program" -h 127.0.0.1 -p "$port" --cafile "$work/ca.pem" --cert "$work/$name.crt" \
        --key "$work/$name.ref" -q 1 "$@"
}

# round_trip NAME OPTION...: publish as NAME, then subscribe as NAME and receive it
round_trip()
{
    local name=$1 message

    shift
    message="from $name $RANDOM"
    client mosquitto_pub "$name" -t "test/$name" -r -m "$message" "$@" &&
        [ "$(client mosquitto_sub "$name" -t "test/$name" -C 1 -W 10 "$@")" = "$message" ]
}

served_key()
{
    soft openssl s_client -connect "127.0.0.1:$port" </dev/null 2>/dev/null | soft openssl x509 -noout -pubkey
}
serves_key_of() { [ "$(served_key)" = "$(hsmctl key show "$1" --pubout)" ]; }

if ! start_on_port "$work/broker.log" run_broker; then
    report 'NOT OK' 'mosquitto starts' "$work/broker.log"
    finish
fi
broker=$started
same 'the broker runs as its user' "$(id -u "$user")" \
    "$(sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$broker/status")"
ok 'the broker serves the key of the token' serves_key_of broker

for name in client-ec client-rsa client-ed client-file; do
    for version in tlsv1.3 tlsv1.2; do
        ok "publish and receive, $name, $version" round_trip $name --tls-version $version
    done
    grep -q "u'$name'" "$work/broker.log" || report 'NOT OK' "the broker saw $name by its certificate" \
        "$work/broker.log"
done
fails 'a client without certificate is refused' . timeout 20 mosquitto_pub -h 127.0.0.1 -p "$port" \
    --cafile "$work/ca.pem" -t test -m no
fails 'a certificate of another key is refused by the client' . timeout 20 mosquitto_pub -h 127.0.0.1 -p "$port" \
    --cafile "$work/ca.pem" --cert "$work/client-rsa.crt" --key "$work/client-ec.ref" -t test -m no

echo '# SIGHUP'
start "$work/subscriber.log" client mosquitto_sub client-ec -t long -C 1 -W 60
subscriber=$started
ok 'a subscriber waits' wait_for 10 grep -q "Received SUBSCRIBE from .*" "$work/broker.log"
cp "$work/broker-new.ref" "$work/server.key"
cp "$work/broker-new.crt" "$work/server.crt"
kill -HUP "$broker"
ok 'after SIGHUP the broker serves the new key' wait_for 10 serves_key_of broker-new
ok 'publish and receive after SIGHUP' round_trip client-ec
kill -HUP "$broker"
ok 'and after the same again' round_trip client-rsa
ok 'publish to the old subscriber' client mosquitto_pub client-rsa -t long -m late
wait_for 15 gone "$subscriber"
same 'which kept its connection' "$(cat "$work/subscriber.log")" late

echo '# end'
kill "$broker"
ok 'the broker ends' wait_for 10 gone "$broker"
wait "$broker"
same 'with exit code 0' "$?" 0
finish
