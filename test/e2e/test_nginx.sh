#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# nginx as the distribution ships it: keys by reference and in a file, reload and killed workers under load.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx curl openssl perl
PATH=$PATH:/usr/sbin

clients=4
if [ "$(id -u)" -eq 0 ]; then
    nginx_user=www-data
    expected_uid=$(id -u www-data)
    make_token token --group www-data
else
    nginx_user=
    expected_uid=$(id -u)
    make_token
fi
make_ca
make_key ec ec:P-256
make_key rsa rsa:2048
soft openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/file.key"
issue ec "$work/ec.ref" ec.test
issue rsa "$work/rsa.ref" rsa.test
issue file "$work/file.key" file.test

write_configuration() # PORT
{
    local vhost

    for vhost in ec:ec.ref rsa:rsa.ref file:file.key; do
        cat <<-END
				server {
				    listen 127.0.0.1:$1 ssl;
				    server_name ${vhost%%:*}.test;
				    ssl_certificate $work/${vhost%%:*}.crt;
				    ssl_certificate_key $work/${vhost#*:};
				    location / { return 200 "${vhost%%:*}\n"; }
				}
			END
    done | nginx_configuration "$nginx_user"
}

run_nginx() # PORT
{
    write_configuration "$1"
    exec nginx -c "$work/nginx.conf"
}

fetch() # VHOST OPTION...
{
    local vhost=$1

    shift
    soft curl -sS --noproxy '*' --cacert "$work/ca.pem" --resolve "$vhost.test:$port:127.0.0.1" "$@" \
        "https://$vhost.test:$port/"
}

workers() { pgrep -P "$master"; }
two_workers() { [ "$(workers | wc -l)" -eq 2 ]; }
none_of() # PID...: all of them are gone
{
    local pid

    for pid in "$@"; do
        gone "$pid" || return 1
    done
}

start_load() # one load generator per vhost
{
    local vhost

    loads=()
    for vhost in ec rsa file; do
        start "$work/load.$vhost" "$HSM_BUILD_DIR/test/e2e/tls-load" "$port" "$work/ca.pem" "$vhost.test" "$clients"
        loads+=("$started")
    done
    for vhost in ec rsa file; do
        wait_for 20 grep -q running "$work/load.$vhost" || report 'NOT OK' "load on $vhost runs" "$work/load.$vhost"
    done
}

# stop_load DESCRIPTION MAX-LOST: nothing refused, nothing wrong, at most so many connections lost per vhost
stop_load()
{
    local vhost pid lost

    kill "${loads[@]}"
    for pid in "${loads[@]}"; do
        wait_for 30 gone "$pid" || report 'NOT OK' 'the load generator ends'
    done
    for vhost in ec rsa file; do
        lost=$(sed -n 's/^ok=[1-9][0-9]* refused=0 lost=\([0-9]*\) wrong=0$/\1/p' "$work/load.$vhost")
        if [ -n "$lost" ] && [ "$lost" -le "$2" ]; then
            report ok "$1, $vhost: $(tail -n 1 "$work/load.$vhost")"
        else
            report 'NOT OK' "$1, $vhost" "$work/load.$vhost" "$work/nginx.log"
        fi
    done
}

echo '# configuration test'
write_configuration "$(free_port)"
ok 'nginx -t' nginx -t -c "$work/nginx.conf"
with_token_absent() { HSM_TOKEN=soft:$work/absent/token.db HSM_PIN_SOURCE=file:$work/absent/pin "$@"; }
ok 'nginx -t with the token absent' with_token_absent nginx -t -c "$work/nginx.conf"
cp "$work/ec.crt" "$work/ec.crt.right"
cp "$work/file.crt" "$work/ec.crt"
fails 'nginx -t sees a certificate of another key' 'key values mismatch' nginx -t -c "$work/nginx.conf"
cp "$work/ec.crt.right" "$work/ec.crt"

echo '# serving'
if ! start_on_port "$work/nginx.out" run_nginx; then
    report 'NOT OK' 'nginx starts' "$work/nginx.out" "$work/nginx.log"
    finish
fi
master=$started
ok 'two workers' wait_for 10 two_workers
for pid in $(workers); do
    same "worker runs as uid $expected_uid" "$expected_uid" "$(sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' \
        "/proc/$pid/status")"
done
for vhost in ec rsa file; do
    ok "TLS 1.3, $vhost" fetch $vhost --tlsv1.3
    same 'the right virtual host answers' "$(cat "$work/out")" $vhost
    ok "TLS 1.2, $vhost" fetch $vhost --tls-max 1.2
done
for vhost in ec rsa; do
    served=$(soft openssl s_client -connect "127.0.0.1:$port" -servername $vhost.test </dev/null 2>/dev/null |
        soft openssl x509 -noout -pubkey)
    same "the certificate's key is the token's, $vhost" "$served" "$(hsmctl key show $vhost --pubout)"
done

echo '# reload under load'
start_load
for round in 1 2 3; do
    mapfile -t old < <(workers)
    ok "nginx -s reload, $round" nginx -s reload -c "$work/nginx.conf"
    ok 'the old workers leave' wait_for 30 none_of "${old[@]}"
    ok 'two new ones are there' wait_for 10 two_workers
done
stop_load 'no request failed' 0

echo '# a worker killed under load'
start_load
for round in 1 2 3; do
    victim=$(workers | head -n 1)
    kill -9 "$victim"
    ok "killed worker is replaced, $round" wait_for 10 two_workers
    ok 'serving goes on' fetch ec --tlsv1.3
done
stop_load 'only what the killed workers held was lost' $((3 * clients))

echo '# end'
mapfile -t all < <(echo "$master"; workers)
ok 'nginx -s quit' nginx -s quit -c "$work/nginx.conf"
ok 'nothing is left running' wait_for 20 none_of "${all[@]}"
if grep -E '\[(emerg|alert|crit)\]' "$work/nginx.log" | grep -v 'exited on signal 9' >"$work/out"; then
    report 'NOT OK' 'nginx logged nothing serious' "$work/out"
else
    report ok 'nginx logged nothing serious'
fi
finish
