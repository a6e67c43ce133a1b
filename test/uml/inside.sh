#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tests on a real /dev/i2c-7, run by run.sh as root inside User-Mode Linux. One line "PART passed|failed NAME" each.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

uml_bin=$HSM_BUILD_DIR/test/uml
chip=se05x:/dev/i2c-7

# part NAME FUNCTION: passed if no check in it failed
part()
{
    local before=$failures begin=$SECONDS

    echo "# $1"
    "$2"
    if [ "$failures" -eq "$before" ]; then
        echo "PART passed $1, $((SECONDS - begin)) s"
    else
        echo "PART failed $1, $((SECONDS - begin)) s"
    fi
}

# start_simulator OPTION...: the summaries of all runs are kept
start_simulator()
{
    start "$work/sim.log" "$HSM_BUILD_DIR/sim/se05x-sim" --socket "$work/sim.sock" --nvm "$work/nvm" "$@"
    simulator=$started
    wait_for 20 grep -qx ready "$work/sim.log" || report 'NOT OK' 'the simulator starts' "$work/sim.log"
}

stop_simulator()
{
    stop "$simulator"
    cat "$work/sim.log" >>"$work/summaries"
}

# start_bus NUMBER OPTION...: an adapter of its own, with the simulator on it
start_bus()
{
    local number=$1

    shift
    start "$work/pump.$number" "$uml_bin/i2c-pump" --bus "$number" --simulator "$work/sim.sock" "$@"
    pump=$started
    wait_for 20 test -c "/dev/i2c-$number" || report 'NOT OK' "bus $number appears" "$work/pump.$number"
}

# stop_bus NUMBER PID
stop_bus()
{
    stop "$2"
    ok "bus $1 is removed" wait_for 20 not test -e "/dev/i2c-$1"
}

i2c_dev_is_real()
{
    ok 'i2c-dev is the kernel module' grep -q '^i2c_dev ' /proc/modules
    ok 'i2cdetect -F' i2cdetect -F 7
    same 'it says that plain messages can be sent' "$(grep -Ec '^I2C +yes' "$work/out")" 1
}

transport()
{
    local other

    start_bus 8 --test-chips --max-write 255 --max-read 255 # as mt65xx
    other=$pump
    ok 'every errno and short count' env I2C_PUMP="$uml_bin/i2c-pump" "$uml_bin/test_i2c_dev"
    tail -n 1 "$work/out"
    stop_bus 8 "$other"
}

driver_suite()
{
    ok 'test_token' timeout 300 env HSM_TEST_TOKEN="$chip" "$HSM_BUILD_DIR/test/unit/test_token"
    grep '^[0-9]*%' "$work/out"
}

# Each address once; 0x48 only by the chip's own protocol. The test chips at 0x52 to 0x54 disturb the bus.
scan()
{
    local other bus_number

    start_bus 8 --test-chips --no-empty
    other=$pump
    for bus_number in 7 8; do
        ok "hsmctl bus scan /dev/i2c-$bus_number" hsmctl bus scan "/dev/i2c-$bus_number"
        cp "$work/out" "$work/scan"
        same 'it finds the chip' "$(grep -c '^0x48 *SE05x' "$work/scan")" 1
        same 'and the other devices' "$(grep -Ec '^0x4a *answers|^0x5[234] *the bus is disturbed' "$work/scan")" 4
        same 'and nothing else' "$(grep -c '^0x' "$work/scan")" 5
    done
    stop_bus 8 "$other"
}

make_board_token()
{
    export HSM_TOKEN=$chip HSM_PIN_SOURCE=file:$work/pin
    chgrp www-data /dev/i2c-7
    chmod 660 /dev/i2c-7
    ok 'token init' hsmctl token init --force --label board --generate-pin --group www-data
    make_key web ec:P-256
}

sign()
{
    soft openssl rand -out "$work/digest" 32
    openssl pkeyutl -sign -inkey "$work/web.ref" -in "$work/digest" -out "$work/sig" &&
        hsmctl key show web --pubout >"$work/web.pub" &&
        soft openssl pkeyutl -verify -pubin -inkey "$work/web.pub" -in "$work/digest" -sigfile "$work/sig"
}

refusals()
{
    local kind number=20

    for kind in EREMOTEIO EIO short; do
        start_bus "$number" --nack "$kind"
        export HSM_TOKEN=se05x:/dev/i2c-$number
        ok "signature on an adapter that reports a NACK as $kind" sign
        export HSM_TOKEN=$chip
        stop_bus "$number" "$pump"
        number=$((number + 1))
    done
}

power_loss()
{
    ok 'signature before' sign
    stop_simulator
    fails 'signature without power' "/dev/i2c-7" timeout 60 openssl pkeyutl -sign -inkey "$work/web.ref" \
        -in "$work/digest" -out "$work/sig"
    start_simulator --chip-timing
    ok 'signature after power has come back' sign
}

run_nginx() # PORT
{
    nginx_configuration www-data <<-END
		server {
		    listen 127.0.0.1:$1 ssl;
		    ssl_certificate $work/web.crt;
		    ssl_certificate_key $work/web.ref;
		    location / { return 200 "served\n"; }
		}
	END
    exec nginx -c "$work/nginx.conf"
}

fetch() # OPTION...
{
    soft curl -sS --noproxy '*' --cacert "$work/ca.pem" "$@" "https://127.0.0.1:$port/"
}

tls()
{
    local server

    make_ca
    issue web "$work/web.ref" web.test
    if ! start_on_port "$work/nginx.out" run_nginx; then
        report 'NOT OK' 'nginx starts' "$work/nginx.out" "$work/nginx.log"
        return
    fi
    server=$started
    ok 'TLS 1.3 handshake' fetch --tlsv1.3
    same 'nginx answers' "$(cat "$work/out")" served
    ok 'TLS 1.2 handshake' fetch --tls-max 1.2
    same 'with the key of the chip' "$(public_key_of_certificate "$work/web.crt")" "$(hsmctl key show web --pubout)"
    stop "$server"
}

frames_had_bytes()
{
    grep -qx 'empty-frames: 0' "$work/summaries" && ! grep '^empty-frames: ' "$work/summaries" | grep -v ' 0$'
}

# Last: what the simulator counted, and whether the module leaves as it came
no_empty_frame()
{
    stop_simulator
    ok 'the chip never saw an empty frame' frames_had_bytes
    grep -E '^(transactions|nacks|apdus|empty-frames):' "$work/summaries"
    stop_bus 7 "$bus"
    ok 'the module can be unloaded' rmmod i2c-userbus
    dmesg >"$work/dmesg"
    if grep -E 'BUG|WARNING|Oops|Call Trace|hung task' "$work/dmesg" >"$work/out"; then
        report 'NOT OK' 'the kernel complains' "$work/out" "$work/dmesg"
    else
        report ok 'the kernel has nothing to complain of'
    fi
}

load_modules() { /run/modprobe i2c-dev && insmod /run/uml/i2c-userbus.ko; }
ok 'modules are loaded' load_modules || finish
start_simulator
start_bus 7 --test-chips
bus=$pump

part 'i2c-dev' i2c_dev_is_real
part 'transport on /dev/i2c-7' transport
part 'bus scan on /dev/i2c-7' scan
part 'driver suite on /dev/i2c-7' driver_suite

# From here on the chip takes its time, and refuses its address meanwhile
stop_simulator
start_simulator --chip-timing
part 'hsmctl on /dev/i2c-7' make_board_token
part 'adapters with other NACKs' refusals
part 'chip loses power on /dev/i2c-7' power_loss
part 'nginx with a key behind /dev/i2c-7' tls
part 'no empty frame, module unloads' no_empty_frame
finish
