#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hsmctl doctor finds each configuration trap and names the remedy. HSM_VALGRIND=1 or --valgrind: under valgrind.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hsmctl_lib.sh"

make_token board
token=$HSM_TOKEN
pin_file=${HSM_PIN_SOURCE#file:}
unset HSM_TOKEN HSM_PIN_SOURCE
cnf=$work/openssl.cnf
unset OPENSSL_CONF

# The shipped example with this test's token, changed by sed expressions.
config() # SED-EXPRESSION...
{
    local edits=() edit

    for edit in "$@"; do
        edits+=(-e "$edit")
    done
    sed -e "s|^token = .*|token = $token|" -e "s|^pin-source = .*|pin-source = file:$pin_file|" \
        "$HSM_SOURCE_DIR/examples/openssl.cnf" | sed -e '' ${edits[@]+"${edits[@]}"} >"$cnf"
    chmod 644 "$cnf"
}

# finds DESCRIPTION VERDICT CHECK PATTERN [OPTION...]: a result line with this verdict and check that matches PATTERN and
# (if not ok) has a remedy or explains itself. A `fail` must make doctor exit with 1.
finds()
{
    local description=$1 verdict=$2 check=$3 pattern=$4 status

    shift 4
    OPENSSL_CONF=$cnf hsmctl doctor "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    if grep -Eq "^$verdict +$check +.*($pattern)" "$work/out" && [ $status -lt 2 ] &&
        { [ "$verdict" != fail ] || [ $status -eq 1 ]; }; then
        report ok "$description"
    else
        echo "exit $status, expected '$verdict $check ... $pattern'" >>"$work/err"
        report 'NOT OK' "$description" "$work/out" "$work/err" "$work"/valgrind.*
    fi
}

# ---- all is well -------------------------------------------------------------------------------------------------
config
OPENSSL_CONF=$cnf ok 'the example configuration has no fault' hsmctl doctor
grep -Eq '^(fail|warn)' <(grep -v ' environment ' "$work/out") && result='NOT OK' || result=ok
report $result 'and no warning' "$work/out"
finds 'libcrypto really activates it' ok activation 'libcrypto activates hsm [0-9]'
finds 'the token opens' ok token "label 'board'"
finds 'the PIN is right' ok pin 'is right'
finds 'hsm: URIs are answered' ok uri-scheme 'hsm: URIs are answered by hsm'
OPENSSL_CONF=$cnf json 'doctor as JSON' 'length > 10 and all(.[]; .result != "fail" and has("check") and has("what"))' doctor
ok '--config names the file' hsmctl doctor --config "$cnf"
grep -Eq '^warn +config-file .*reads .* instead' "$work/out" && result=ok || result='NOT OK'
report $result 'and it is said that programs read another one' "$work/out"

# ---- the file ----------------------------------------------------------------------------------------------------
rm -f "$cnf"
finds 'a missing file' fail config-file 'No such file.*-> copy'
mkdir "$cnf"
finds 'a directory' fail config-file 'not a regular file'
rmdir "$cnf"
config
chmod 666 "$cnf"
finds 'a file that everybody can write' fail config-file 'written by everybody'
chmod 600 "$cnf"
finds 'a file that only its owner can read' warn config-file 'not readable by everybody'
config '1i [broken'
finds 'a syntax error, with its line' fail syntax 'line 1.*-> correct'

# ---- the way to the section --------------------------------------------------------------------------------------
config '/^openssl_conf/d'
finds 'openssl_conf missing' fail openssl_conf 'missing.*-> put'
config 's/^openssl_conf/# openssl_conf/'
finds 'openssl_conf commented out' fail openssl_conf 'commented out on line'
config '/^openssl_conf/d' '/^\[openssl_init\]/a openssl_conf = openssl_init'
finds 'openssl_conf behind the first section' fail openssl_conf 'inside \[openssl_init\].*-> move'
config 's/^openssl_conf.*/openssl_conf = nowhere/'
finds 'openssl_conf leads nowhere' fail openssl_conf 'no section \[nowhere\]'
config '/^providers/d'
finds 'providers missing' fail providers 'no .providers.'
config 's/^providers/# providers/'
finds 'providers commented out, as in stock files' fail providers 'commented out.*Debian'
config 's/^providers.*/providers = nowhere/'
finds 'providers leads nowhere' fail providers 'no section \[nowhere\]'
config '/^hsm = /d'
finds 'hsm not listed' fail hsm 'not listed.*-> add'
config 's/^hsm = .*/hsm = nowhere/'
finds 'the section of hsm missing' fail hsm 'no section \[nowhere\]'
config 's/^hsm = .*/token = hsm_sect/' "/^\[hsm_sect\]/a module = $HSM_MODULE_DIR/hsm.so"
finds 'hsm under another name' warn hsm "listed as provider 'token'"

# ---- activation --------------------------------------------------------------------------------------------------
config '/^\[hsm_sect\]/,/^token/{/^activate/d}'
finds 'hsm not activated' fail activate 'no .activate.'
finds 'libcrypto agrees' fail activation 'does not activate hsm'
config '/^\[hsm_sect\]/,/^token/{s/^activate.*/activate = 0/}'
finds 'activate = 0, which activates on 3.0' fail activate 'activate = 0.*-> to switch hsm off, remove'
config '/^\[hsm_sect\]/,/^token/{s/^activate.*/activate = please/}'
finds 'activate = please, which newer releases refuse' fail activate 'please'
config '/^\[hsm_sect\]/a soft_load = 0'
finds 'soft_load = 0, which is a yes on 3.0' fail activate 'soft_load = 0'
config '/^default = /d'
finds 'default not listed' fail default 'default is not listed'
finds 'libcrypto agrees' fail activation 'default provider is not active'
config '/^\[default_sect\]/,/^\[hsm_sect\]/{/^activate/d}'
finds 'default listed, but not activated' fail default 'not activated in \[default_sect\]'
config '/^\[default_sect\]/,/^\[hsm_sect\]/{s/^activate.*/activate = off/}'
finds 'default switched off' fail default 'activate = off'
config '/^hsm = /d' '/^default = /i hsm = hsm_sect'
finds 'hsm before default' warn order 'before default'

# ---- keys and values of the section --------------------------------------------------------------------------------
config '/^\[hsm_sect\]/a pin_source = file:/x'
finds 'an unknown key, with the one that was meant' fail keys "unknown key 'pin_source'.*-> did you mean pin-source"
config '/^\[hsm_sect\]/a zzzzzzzzzzzz = 1'
finds 'an unknown key, unlike any' fail keys "unknown key 'zzzzzzzzzzzz'.*-> remove it"
config 's/^token = .*/token = nonsense/'
finds 'a token that is no specification' fail keys 'nonsense'
config 's/^pin-source = .*/pin-source = \/etc\/hsm\/pin/'
finds 'a PIN source that is none' fail keys 'pin-source'
config '/^\[hsm_sect\]/a log = req'
finds 'a value that is the name of a section' fail values 'log = req.*eats the key'
config '/^\[hsm_sect\]/a identity = default'
finds 'the value default' fail values 'recurses'
finds 'libcrypto agrees' fail activation 'hsm|configuration'
config 's/^token = \(.*\)/token.main = \1/'
finds 'an index that tokens does not name' fail tokens "does not name 'main'"
config '/^token = /d'
finds 'no token at all' warn tokens 'no token is named'
config "s|^pin-source = .*|pin-source = file:$work/pin#1|"
finds 'a hash sign in a value' warn pin-text '# in the middle'
config '/^\[hsm_sect\]/a pin = 1234'
finds 'a PIN in the file' fail pin-text 'holds a PIN'
config '/^\[hsm_sect\]/a x = 1' '/^\[hsm_sect\]/a log = file:/tmp/$x'
finds 'a dollar sign in a value' warn pin-text 'is expanded'

# ---- the rest of the file ----------------------------------------------------------------------------------------
config '/^\[openssl_init\]/a alg_section = algs' '$a [algs]\ndefault_properties = provider=hsm'
finds 'default_properties that bind everything' fail properties 'binds every operation'
config '/^\[openssl_init\]/a alg_section = algs' '$a [algs]\ndefault_properties = ?provider=hsm'
finds 'default_properties that prefer hsm' warn properties 'software keys'
config '/^\[openssl_init\]/a random = rnd' '$a [rnd]\nseed = HSM-SEED'
finds 'a seed source that is not offered' fail random 'silently uses the operating system'
config '/^\[openssl_init\]/a random = rnd' '$a [rnd]\nrandom = HASH-DRBG'
finds 'a generator that is offered' ok random 'offered by provider default'
config '/^\[req\]/d'
finds 'no [req]' warn programs 'no section \[req\]'
config '/^nodejs_conf/d'
finds 'no nodejs_conf' ok programs 'Node.js'

# ---- the module --------------------------------------------------------------------------------------------------
config "/^\[hsm_sect\]/a module = $work/nowhere.so"
finds 'a module that is not there' fail module 'nowhere.so cannot be found'
finds 'libcrypto agrees' fail activation 'hsm'
echo garbage >"$work/garbage.so"
config "/^\[hsm_sect\]/a module = $work/garbage.so"
finds 'a module that is none' fail module-load 'cannot be loaded'
library=$(ldconfig -p 2>/dev/null | sed -n 's/.*libz\.so\.1 .*=> //p;' | head -1)
if [ -n "$library" ]; then
    config "/^\[hsm_sect\]/a module = $library"
    finds 'a library that is no provider' fail module-load 'no OSSL_provider_init'
fi
config
OPENSSL_MODULES=$work finds 'OPENSSL_MODULES that leads elsewhere' fail module "$work/hsm.so cannot be found"
finds 'OPENSSL_MODULES is mentioned' warn environment 'OPENSSL_MODULES='

# ---- token and PIN -----------------------------------------------------------------------------------------------
HSM_TOKEN=$token finds 'HSM_TOKEN overrides' warn environment 'HSM_TOKEN=.*decides the token'
config "s|^token = .*|token = soft:$work/none.db|"
finds 'a token that is not there' fail token 'none.db'
config "s|^token = .*|token = teapot:/x|"
finds 'an unknown driver' fail token "driver 'teapot'"
config
chmod 644 "$work/board/token.db"
finds 'a token file that everybody can read' warn token-file 'read by everybody'
chmod 666 "$work/board/token.db"
finds 'a token file that everybody can write' fail token-file 'written by everybody'
chmod 600 "$work/board/token.db"
chmod 644 "$pin_file"
finds 'a PIN file that everybody can read' fail pin-source 'open to everybody'
chmod 600 "$pin_file"
touch "$pin_file.new"
finds 'a PIN change that was interrupted' warn pin-source 'interrupted PIN change'
rm "$pin_file.new"
chmod 777 "$work/board"
finds 'a directory that everybody can write' fail token-file 'can replace'
chmod 755 "$work/board"
config '/^pin-source/d'
finds 'no PIN source' warn pin-source 'no pin-source'
config 's/^pin-source.*/pin-source = prompt/'
finds 'a PIN source that asks' warn pin-source 'nobody to ask'
config 's/^pin-source.*/pin-source = env:NO_SUCH_VARIABLE/'
finds 'a PIN source that is not set' fail pin-source 'not set'
config "s|^pin-source.*|pin-source = file:$work/nopin|"
finds 'a PIN file that is not there' fail pin-source 'nopin: No such file'
echo wrong-pin >"$work/wrong"
chmod 600 "$work/wrong"
config "s|^pin-source.*|pin-source = file:$work/wrong|"
finds 'a wrong PIN' fail pin 'wrong PIN|PIN.*(left|tries)'
finds 'the try that it cost' warn token 'PIN tries are left'
for _ in {1..20}; do
    left=$(OPENSSL_CONF=$cnf hsmctl token info | sed -n 's/^pin_tries_left *//p')
    [ "$left" -gt 1 ] || break
    OPENSSL_CONF=$cnf hsmctl key generate x --type ec:P-256 >/dev/null 2>&1
done
finds 'the last try is never used up' warn pin 'was not tried'
same 'it is still there' "$(OPENSSL_CONF=$cnf hsmctl token info | sed -n 's/^pin_tries_left *//p')" 1
OPENSSL_CONF=$cnf hsmctl key generate x --type ec:P-256 >/dev/null 2>&1
finds 'a locked PIN' fail token 'is locked.*-> .*unblock'

# ---- as the user of a service --------------------------------------------------------------------------------------
if [ "$(id -u)" = 0 ] && id nobody >/dev/null 2>&1; then
    make_token service --group "$(id -gn nobody)"
    chmod 755 "$work"
    token=$HSM_TOKEN
    pin_file=${HSM_PIN_SOURCE#file:}
    unset HSM_TOKEN HSM_PIN_SOURCE
    config
    finds 'a user with access: token' ok user 'nobody can open token' --user nobody
    finds 'a user with access: PIN' ok user 'nobody can read PIN file' --user nobody
    chmod 600 "$pin_file"
    finds 'a user who cannot read the PIN' fail user 'nobody cannot read PIN file' --user nobody
    chmod 600 "$work/service/token.db"
    finds 'a user who cannot open the token' fail user 'nobody cannot open token' --user nobody
    chmod 700 "$work/service"
    finds 'a user who cannot pass a directory' fail user "cannot pass $work/service" --user nobody
    finds 'an unknown user' fail user "no user 'no-such-user'" --user no-such-user
fi

finish
