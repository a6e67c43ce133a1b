#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The five-minute tour of README.md works as pasted: its blocks are run as they stand, but in a folder and on ports
# of our own.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx mosquitto mosquitto_pub mosquitto_sub curl openssl perl
PATH=$PATH:/usr/sbin
[ "$(id -u)" -eq 0 ] || skip 'the tour wants root'

tls_port=$(free_port)
mqtt_port=$(free_port)
{
    echo 'set -e'
    # shellcheck disable=SC2016 # a pattern
    sed -n '/^## Five-minute tour/,/^## Installing/p' "$HSM_SOURCE_DIR/README.md" | sed -n '/^```sh$/,/^```$/p' |
        grep -v '^```'
} | sed -e "s|/tmp/hsm-tour|$work/tour|g; s|8443|$tls_port|g; s|8883|$mqtt_port|g" \
    -e "s|^sleep 1$|sleep 4|; s|\$PWD/build|$HSM_BUILD_DIR|g" >"$work/tour.sh"

tour() { cd "$HSM_SOURCE_DIR" && env -u OPENSSL_CONF -u OPENSSL_MODULES bash "$work/tour.sh"; }
ok 'the tour runs to its end' timeout 120 bash -c "$(declare -f tour); work=$work HSM_SOURCE_DIR=$HSM_SOURCE_DIR; tour"
[ ! -e "$work/tour/nginx.pid" ] || nginx -s stop -c "$work/tour/nginx.conf"
cp "$work/out" "$work/tour.out"
for line in 'hello from the token' 'signed in the token' 'Verified OK' 'Total found'; do
    ok "it printed '$line'" grep -q "$line" "$work/tour.out"
done
ok 'it cleans up' test ! -e "$work/tour"
ok 'nothing listens any more' wait_for 10 not listening "$tls_port"
ok 'nothing listens any more' wait_for 10 not listening "$mqtt_port"
finish
