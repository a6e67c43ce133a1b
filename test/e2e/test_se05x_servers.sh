#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Unmodified servers with keys in a (simulated) chip: nginx with two workers, which are two processes on one chip, and
# mosquitto; the openssl command line; what each costs on the bus.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx curl mosquitto mosquitto_pub mosquitto_sub openssl perl
PATH=$PATH:/usr/sbin
HSM_SIM=${HSM_SIM:-$HSM_BUILD_DIR/sim/se05x-sim}
[ -x "$HSM_SIM" ] || skip 'there is no simulator in this build'

group=()
nginx_user=
mosquitto_user=$(id -un)
if [ "$(id -u)" -eq 0 ]; then # one group for all who may use the bus, as a board has its group i2c
    group=(--group www-data)
    nginx_user=www-data
    mosquitto_user=www-data
fi

start "$work/sim.log" "$HSM_SIM" --socket "$work/sim.sock" --nvm "$work/chip.nvm" --applet 3.1.1
sim=$started
wait_for 10 grep -q '^ready' "$work/sim.log" || { report 'NOT OK' 'the simulator starts' "$work/sim.log"; finish; }
[ ${#group[@]} -eq 0 ] || { chgrp www-data "$work/sim.sock" && chmod 660 "$work/sim.sock"; }

export HSM_TOKEN=se05x:unix:$work/sim.sock HSM_PIN_SOURCE=file:$work/pin
ok 'the chip is initialised' hsmctl token init --label board --generate-pin ${group[@]+"${group[@]}"}
make_ca
for key in ec=ec:P-256 rsa=rsa:2048 broker=ec:P-256 client=ec:P-256; do
    make_key "${key%%=*}" "${key#*=}"
    issue "${key%%=*}" "$work/${key%%=*}.ref" "${key%%=*}.test"
done

# control COMMAND...: to the simulator; prints its answer
control()
{
    perl -MIO::Socket::UNIX -e '
        my $s = IO::Socket::UNIX->new(Peer => shift) or die; my $c = shift;
        print $s "C\0" . pack("n", length $c) . $c; $s->flush;
        read($s, my $h, 3) == 3 or die; my ($st, $n) = unpack("Cn", $h); read($s, my $t, $n); print $t; exit $st' \
        "$work/sim.sock" "$*"
}
statistic() { control stats | sed -n "s/^$1: //p"; }

# ---- the command line -------------------------------------------------------------------------------------

printf '%032d' 7 >"$work/digest"
control stats-clear >/dev/null
ok 'loading a reference costs nothing on the bus' openssl pkey -in "$work/ec.ref" -pubout -out "$work/ec.pub"
same 'not one message' 0 "$(($(statistic writes) + $(statistic reads) + 0))"
for key in ec rsa; do
    openssl pkey -in "$work/$key.ref" -pubout -out "$work/$key.pub" 2>"$work/err"
    ok "pkeyutl signs with $key" openssl pkeyutl -sign -inkey "$work/$key.ref" -in "$work/digest" -out "$work/sig" \
        -pkeyopt digest:sha256
    ok 'and it verifies' soft openssl pkeyutl -verify -pubin -inkey "$work/$key.pub" -in "$work/digest" -sigfile "$work/sig" \
        -pkeyopt digest:sha256
done
control stats-clear >/dev/null
openssl pkeyutl -sign -inkey "$work/ec.ref" -in "$work/digest" -out "$work/sig" -pkeyopt digest:sha256
echo "# a cold 'openssl pkeyutl -sign' on the bus:"
control stats | sed 's/^/#   /'

# ---- nginx ------------------------------------------------------------------------------------------------

run_nginx() # PORT
{
    local vhost

    for vhost in ec rsa; do
        cat <<-END
				server {
				    listen 127.0.0.1:$1 ssl reuseport;
				    server_name $vhost.test;
				    ssl_certificate $work/$vhost.crt;
				    ssl_certificate_key $work/$vhost.ref;
				    location / { add_header X-Worker \$pid; return 200 "$vhost\n"; }
				}
			END
    done | awk '/reuseport/ && seen++ { sub(" reuseport", "") } { print }' | nginx_configuration "$nginx_user"
    exec nginx -c "$work/nginx.conf"
}

fetch() # VHOST OPTION...
{
    local vhost=$1

    shift
    soft curl -sS --noproxy '*' --cacert "$work/ca.pem" --resolve "$vhost.test:$port:127.0.0.1" "$@" "https://$vhost.test:$port/"
}

if ! start_on_port "$work/nginx.out" run_nginx; then
    report 'NOT OK' 'nginx starts' "$work/nginx.out" "$work/nginx.log"
    finish
fi
nginx=$started
for vhost in ec rsa; do
    for version in tlsv1.2 tlsv1.3; do
        ok "nginx serves $vhost by $version" fetch "$vhost" --"$version" --tls-max "${version#tlsv}"
    done
done

many() # COUNT: requests one after the other; prints the workers that answered
{
    local i

    for ((i = 0; i < $1; i++)); do
        fetch ec -o /dev/null -D - | tr -d '\r' | sed -n 's/^X-Worker: //p'
    done
}
many 30 >"$work/a" 2>"$work/a.err" &
one=$!
many 30 >"$work/b" 2>"$work/b.err" &
two=$!
wait $one $two
same 'sixty handshakes at once' 60 "$(cat "$work/a" "$work/b" | wc -l)"
same 'by two processes on one chip' 2 "$(sort -u "$work/a" "$work/b" | wc -l)"
ok 'while hsmctl uses the chip too' hsmctl key list
control stats-clear >/dev/null
fetch ec -o /dev/null
echo "# one handshake on the bus:"
control stats | sed 's/^/#   /'

control reset >/dev/null
ok 'after a reset of the chip nginx serves on' fetch ec
control power-off >/dev/null
fails 'without the chip a handshake fails' 'SSL|alert|handshake|reset by peer' fetch ec --max-time 30
ok 'nginx lives on' not gone "$nginx"
control power-on >/dev/null
ok 'and serves when the chip is back' fetch ec
ok 'with the other key as well' fetch rsa
kill -9 "$(pgrep -P "$nginx" | head -n 1)"
ok 'a killed worker does not hold the chip' wait_for 10 fetch ec
stop "$nginx"

# ---- mosquitto --------------------------------------------------------------------------------------------

run_broker() # PORT
{
    cat >"$work/mosquitto.conf" <<-END
		user $mosquitto_user
		log_dest stderr
		persistence false
		allow_anonymous true
		listener $1 127.0.0.1
		cafile $work/ca.pem
		certfile $work/broker.crt
		keyfile $work/broker.ref
		require_certificate true
	END
    exec mosquitto -c "$work/mosquitto.conf"
}

client() # PROGRAM OPTION...
{
    local program=$1

    shift
    timeout 20 "$program" -h 127.0.0.1 -p "$port" --cafile "$work/ca.pem" --cert "$work/client.crt" --key "$work/client.ref" \
        -q 1 "$@"
}

round_trip()
{
    client mosquitto_pub -t test -r -m "from the chip" && [ "$(client mosquitto_sub -t test -C 1 -W 10)" = "from the chip" ]
}

if ! start_on_port "$work/broker.log" run_broker; then
    report 'NOT OK' 'mosquitto starts' "$work/broker.log"
    finish
fi
broker=$started
ok 'mutual TLS with both keys in the chip' round_trip
stop "$broker"
stop "$sim"
finish
