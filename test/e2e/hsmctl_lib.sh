# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of hsmctl share, on top of lib.sh: exact exit codes, one line on stderr, JSON, valgrind.

[ "${1:-}" = --valgrind ] && HSM_VALGRIND=1
hsmctl_bin=$HSM_BUILD_DIR/tools/hsmctl
hsmctl_run=("$hsmctl_bin")
if [ "${HSM_VALGRIND:-0}" = 1 ]; then
    need valgrind
    hsmctl_run=(valgrind -q --leak-check=full --error-exitcode=99 "--log-file=$work/valgrind.%p" "$hsmctl_bin")
fi

hsmctl() { "${hsmctl_run[@]}" "$@"; }

hsmctl_stdin() # FILE ARGUMENT...
{
    local file=$1

    shift
    hsmctl "$@" <"$file"
}

# says STATUS DESCRIPTION PATTERN ARGUMENT...: hsmctl must exit with exactly this status, print nothing on stdout, and
# exactly one line on stderr, which begins with "hsmctl: " and matches PATTERN (grep -E).
# First argument --full: standard output is a full device. --notty: there is no controlling terminal.
says()
{
    local want=$1 description=$2 pattern=$3 status run=(hsmctl) out=$work/out

    shift 3
    [ "${1:-}" = --full ] && out=/dev/full && shift
    [ "${1:-}" = --notty ] && run=(setsid -w "${hsmctl_run[@]}") && shift
    : >"$work/out"
    "${run[@]}" "$@" >"$out" 2>"$work/err" </dev/null
    status=$?
    if [ $status -eq "$want" ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" = 1 ] &&
        grep -Eq -- "^hsmctl: .*($pattern)" "$work/err"; then
        report ok "$description"
    else
        echo "exit $status, expected $want and one line that says '$pattern': hsmctl $*" >>"$work/err"
        report 'NOT OK' "$description" "$work/out" "$work/err" "$work"/valgrind.*
    fi
}

# json DESCRIPTION FILTER ARGUMENT...: the output with --json is JSON for which the jq filter is true. Without jq, it is
# only looked at whether the command works.
json()
{
    local description=$1 filter=$2

    shift 2
    if ! command -v jq >/dev/null; then
        ok "$description (no jq: content not examined)" hsmctl --json "$@"
        return
    fi
    if hsmctl --json "$@" >"$work/out" 2>"$work/err" </dev/null && jq -e "$filter" "$work/out" >/dev/null 2>>"$work/err"; then
        report ok "$description"
    else
        echo "expected JSON with $filter: hsmctl --json $*" >>"$work/err"
        report 'NOT OK' "$description" "$work/out" "$work/err"
    fi
}
