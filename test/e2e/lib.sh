# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the end-to-end tests share. A test is:
#     . "$(dirname "$0")/lib.sh"
#     make_token
#     ok    'a key is generated'  hsmctl key generate web --type ec:P-256
#     fails 'a second one is not' 'already exists' hsmctl key generate web --type ec:P-256
#     finish
# Exit codes: 0 all checks passed, 1 some failed, 77 skipped. Nothing started here survives the script.

set -u
umask 022

e2e_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HSM_SOURCE_DIR=${HSM_SOURCE_DIR:-$(cd "$e2e_dir/../.." && pwd)}
HSM_BUILD_DIR=${HSM_BUILD_DIR:-$HSM_SOURCE_DIR/build}
HSM_MODULE_DIR=${HSM_MODULE_DIR:-$HSM_BUILD_DIR/provider}
export HSM_SOURCE_DIR HSM_BUILD_DIR HSM_MODULE_DIR

# The configuration under test is the shipped example; only token and PIN are named by the environment.
unset HSM_TOKEN HSM_PIN_SOURCE HSM_LOG HSM_LOG_LEVEL OPENSSL_CONF_INCLUDE
export OPENSSL_CONF=$HSM_SOURCE_DIR/examples/openssl.cnf
export OPENSSL_MODULES=$HSM_MODULE_DIR
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/hsm-e2e.XXXXXX")
chmod 711 "$work" # servers that drop root must reach their files
checks=0
failures=0

cleanup()
{
    local pid

    # the shell knows which of its background processes are still there: no foreign process is ever hit
    for pid in $(jobs -pr); do
        kill "$pid" 2>/dev/null
        kill -CONT "$pid" 2>/dev/null
    done
    for pid in $(jobs -pr); do
        wait_for 5 gone "$pid" || kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# skip REASON: end the whole script
skip()
{
    echo "SKIP: $*"
    exit 77
}

need()
{
    local program

    for program in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

report() # RESULT DESCRIPTION [FILE...]
{
    local result=$1 description=$2 file

    shift 2
    checks=$((checks + 1))
    echo "$result - $description"
    [ "$result" = ok ] && return 0
    failures=$((failures + 1))
    for file in "$@"; do
        [ -s "$file" ] && tail -n 25 "$file" | sed 's/^/      | /'
    done
    return 1
}

# ok DESCRIPTION COMMAND...: the command must exit 0. Its output is in $work/out and $work/err.
ok()
{
    local description=$1

    shift
    if "$@" >"$work/out" 2>"$work/err" </dev/null; then
        report ok "$description"
    else
        echo "exit $?: $*" >>"$work/err"
        report 'NOT OK' "$description" "$work/out" "$work/err"
    fi
}

not() { ! "$@"; }

# fails DESCRIPTION PATTERN COMMAND...: the command must fail by itself (no signal) and say PATTERN (grep -E)
fails()
{
    local description=$1 pattern=$2 status

    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    if [ $status -ne 0 ] && [ $status -lt 126 ] && cat "$work/out" "$work/err" | grep -Eq -- "$pattern"; then
        report ok "$description"
    else
        echo "exit $status, expected a failure that says '$pattern': $*" >>"$work/err"
        report 'NOT OK' "$description" "$work/out" "$work/err"
    fi
}

# same DESCRIPTION A B: two strings are equal and not empty
same()
{
    if [ -n "$2" ] && [ "$2" = "$3" ]; then
        report ok "$1"
    else
        printf 'left:  %s\nright: %s\n' "$2" "$3" >"$work/err"
        report 'NOT OK' "$1" "$work/err"
    fi
}

finish()
{
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ] && [ "$checks" -gt 0 ]
    exit
}

# wait_for SECONDS COMMAND...: poll until the command succeeds; fails when the time is over
wait_for()
{
    local end=$((SECONDS + $1))

    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# start LOGFILE COMMAND...: run in the background, killed at the end; pid in $started
start()
{
    local log=$1

    shift
    "$@" >"$log" 2>&1 </dev/null &
    started=$!
}

# stop PID: end a process of ours and wait for it
stop()
{
    kill "$1" 2>/dev/null
    wait_for 10 gone "$1" || kill -9 "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# A TCP port nobody listens on. Servers are started with start_on_port, which tries again if it was lost meanwhile.
free_port()
{
    perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) && bind(S, sockaddr_in(0, INADDR_LOOPBACK)) or die;
                      print((sockaddr_in(getsockname(S)))[0])'
}

listening() # PORT: a listener on 127.0.0.1 or the wildcard address, IPv4 or IPv6, without connecting to it
{
    local hex

    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -Eq "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A "
}

# start_on_port LOGFILE FUNCTION: calls FUNCTION with a free port as its argument in the background until the port is
# served; FUNCTION must exec the server. Sets $port and $started.
start_on_port()
{
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        start "$1" "$2" "$port"
        wait_for 15 served_or_dead "$port" "$started"
        listening "$port" && ! gone "$started" && return 0
        grep -qi 'in use' "$1" || return 1
    done
    return 1
}

served_or_dead() { listening "$1" || gone "$2"; }

hsmctl() { "$HSM_BUILD_DIR/tools/hsmctl" "$@"; }

# soft COMMAND...: the same program with nothing of ours: system configuration, no provider, no token
soft() { env -u OPENSSL_CONF -u OPENSSL_MODULES -u HSM_TOKEN -u HSM_PIN_SOURCE "$@"; }

# make_token [NAME [OPTION...]]: a soft token in its own directory with a machine-made PIN, named by the environment
make_token()
{
    local name=${1:-token}

    [ $# -gt 0 ] && shift
    mkdir -p "$work/$name"
    chmod 755 "$work/$name"
    export HSM_TOKEN=soft:$work/$name/token.db
    export HSM_PIN_SOURCE=file:$work/$name/pin
    if ! hsmctl token init --label "$name" --generate-pin "$@" >"$work/out" 2>"$work/err" </dev/null; then
        report 'NOT OK' "token init $name" "$work/out" "$work/err"
        finish
    fi
}

# make_key NAME TYPE: a key in the token, and its reference in $work/NAME.ref
make_key()
{
    hsmctl key generate "$1" --type "$2" >"$work/out" 2>"$work/err" </dev/null &&
        hsmctl key ref "$1" -o "$work/$1.ref" >>"$work/out" 2>>"$work/err" </dev/null ||
        report 'NOT OK' "generate $1 ($2)" "$work/out" "$work/err"
}

# make_ca: a certification authority in software: $work/ca.key, $work/ca.pem
make_ca()
{
    soft openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" \
        -out "$work/ca.pem" -days 30 -subj '/CN=test CA' \
        -addext keyUsage=critical,keyCertSign,cRLSign >"$work/out" 2>"$work/err" ||
        report 'NOT OK' 'software CA' "$work/out" "$work/err"
}

# issue NAME KEY [CN]: $work/NAME.crt for the key (reference, URI or PEM file), issued by the software CA
issue()
{
    local names="subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:${3:-localhost}"

    openssl req -new -key "$2" -subj "/CN=${3:-localhost}" -out "$work/$1.csr" >"$work/out" 2>"$work/err" \
        </dev/null &&
        soft openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
            -days 30 -out "$work/$1.crt" -extfile <(echo "$names") \
            >>"$work/out" 2>>"$work/err" ||
        report 'NOT OK' "certificate for $1" "$work/out" "$work/err"
}

# public_key_of_certificate FILE: PEM
public_key_of_certificate() { soft openssl x509 -in "$1" -noout -pubkey; }

# nginx_configuration [USER]: $work/nginx.conf for two workers without session caches; the server blocks come on standard
# input. USER: of the workers, when nginx is started by root.
nginx_configuration()
{
    {
        cat <<-END
			${1:+user $1;}
			daemon off;
			worker_processes 2;
			pid $work/nginx.pid;
			error_log $work/nginx.log info;
			events { worker_connections 256; }
			http {
			    access_log off;
			    client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
			    uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
			    ssl_session_cache off;
			    ssl_session_tickets off;
			    ssl_protocols TLSv1.2 TLSv1.3;
		END
        cat
        echo '}'
    } >"$work/nginx.conf"
}
