#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Beside the default provider, in any order: listed second, hsm takes no part in what does not concern its keys;
# listed first or preferred by a property query, software keys, TLS and digests still work; missing, it breaks nothing.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need openssl strace valgrind perl

make_token
make_ca
make_key ec ec:P-256
make_key rsa rsa:2048
make_key ed ed25519
cd "$work" || exit 1
head -c 5000 /dev/urandom >message
head -c 32 /dev/urandom >digest32
soft openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out soft-ec.key
soft openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out soft-rsa.key 2>/dev/null
soft openssl genpkey -algorithm ED25519 -out soft-ed.key
soft openssl genpkey -algorithm X25519 -out soft-x.key
soft openssl pkey -in soft-x.key -pubout -out soft-x.pub
for name in ec rsa ed; do
    soft openssl pkey -in soft-$name.key -pubout -out soft-$name.pub
    issue soft-$name soft-$name.key localhost
    issue $name $name.ref localhost
done

serve() { exec openssl s_server -accept "127.0.0.1:$1" -quiet -www "${server_options[@]}"; }
page() # PORT OPTION...
{
    local port=$1

    shift
    printf 'GET / HTTP/1.0\r\n\r\n' | timeout 20 openssl s_client -connect "127.0.0.1:$port" -quiet \
        -servername localhost -verify_return_error -verify_hostname localhost -CAfile ca.pem "$@" 2>&1 |
        grep -q 'HTTP/1.0 200 ok'
}

# Everything that a program may do with a software key; with $OPENSSL_CONF as it is
software_operations() # PREFIX
{
    local name

    for name in ec rsa; do
        ok "$1: dgst -sign $name" openssl dgst -sha256 -sign soft-$name.key -out sig message
        ok "$1: dgst -verify $name" openssl dgst -sha256 -verify soft-$name.pub -signature sig message
        ok "$1: pkeyutl -sign $name" openssl pkeyutl -sign -inkey soft-$name.key -in digest32 -out sig
        ok "$1: pkeyutl -verify $name" openssl pkeyutl -verify -pubin -inkey soft-$name.pub -in digest32 -sigfile sig
    done
    ok "$1: pkeyutl -sign ed" openssl pkeyutl -sign -rawin -inkey soft-ed.key -in message -out sig
    ok "$1: pkeyutl -verify ed" openssl pkeyutl -verify -rawin -pubin -inkey soft-ed.pub -in message -sigfile sig
    ok "$1: pkeyutl -derive" openssl pkeyutl -derive -inkey soft-x.key -peerkey soft-x.pub -out secret
    ok "$1: pkeyutl -encrypt" openssl pkeyutl -encrypt -pubin -inkey soft-rsa.pub -in digest32 -out cipher
    ok "$1: pkeyutl -decrypt" openssl pkeyutl -decrypt -inkey soft-rsa.key -in cipher -out plain
    same "$1: the text comes back" "$(sha256sum <plain)" "$(sha256sum <digest32)"
    for name in ec rsa ed; do
        ok "$1: req -new $name" openssl req -new -key soft-$name.key -subj /CN=x -out x.csr
        ok "$1: req -verify $name" openssl req -in x.csr -noout -verify
        ok "$1: req -x509 $name" openssl req -x509 -key soft-$name.key -subj /CN=x -days 2 -out x.crt
        [ $name = ed ] && continue # OpenSSL 3.0 has no CMS with Ed25519
        ok "$1: cms -sign $name" openssl cms -sign -binary -nodetach -outform DER -in message -signer soft-$name.crt \
            -inkey soft-$name.key -out message.cms
        ok "$1: cms -verify $name" openssl cms -verify -binary -inform DER -in message.cms -CAfile ca.pem -purpose any \
            -out message.back
    done
    ok "$1: digest" openssl dgst -sha3-512 message
    ok "$1: cipher" openssl enc -aes-256-ctr -pbkdf2 -pass pass:x -in message -out message.enc
    ok "$1: random" openssl rand -hex 32
    ok "$1: certificate chain" openssl verify -CAfile ca.pem soft-ec.crt
}

# TLS with a software key or a key of the token on the server, software or token certificate on the client
tls_operations() # PREFIX SERVER-KEY...
{
    local prefix=$1 name key version group

    shift
    for name in "$@"; do
        key=$name.ref
        [ -e "$key" ] || key=$name.key
        server_options=(-cert "$name.crt" -key "$key")
        if ! start_on_port server.log serve; then
            report 'NOT OK' "$prefix: s_server $name starts" server.log
            continue
        fi
        for version in tls1_3 tls1_2; do
            ok "$prefix: TLS, server $name, $version" page "$port" -$version
        done
        for group in X25519 P-256 P-384; do
            ok "$prefix: TLS, server $name, group $group" page "$port" -groups $group
        done
        ok "$prefix: TLS, server $name, software client key" page "$port" -cert soft-ec.crt -key soft-ec.key
        ok "$prefix: TLS, server $name, token client key" page "$port" -cert ec.crt -key ec.ref
        stop "$started"
    done
}

token_operations() # PREFIX
{
    ok "$1: a token key signs" openssl dgst -sha256 -sign rsa.ref -out sig message
    ok "$1: verified" openssl dgst -sha256 -verify <(hsmctl key show rsa --pubout) -signature sig message
    ok "$1: a token key by URI signs" openssl pkeyutl -sign -rawin -inkey hsm:ed -in message -out sig
    ok "$1: req with a token key" openssl req -new -key ec.ref -subj /CN=x -out x.csr
    ok "$1: verified" soft openssl req -in x.csr -noout -verify
}

# with CONF COMMAND...: another configuration file
with()
{
    local conf=$1

    shift
    OPENSSL_CONF=$conf "$@"
}

echo '# default first: nothing of a software operation reaches the token'
touched() # COMMAND...: did it open the token or the PIN file?
{
    strace -f -qq -e trace=open,openat,openat2,connect -o strace.log "$@" >out 2>err </dev/null || return 0
    grep -e "$work/token/" strace.log >touched.log
}
untouched() { ! touched "$@"; }
export HSM_LOG=file:$work/hsm.log HSM_LOG_LEVEL=debug
ok 'the check sees a token operation' touched openssl dgst -sha256 -sign ec.ref -out sig message
if [ -s hsm.log ]; then report ok 'which is logged'; else report 'NOT OK' 'a token operation is logged'; fi
rm -f hsm.log
ok 'dgst -sign' untouched openssl dgst -sha256 -sign soft-ec.key -out sig message
ok 'dgst -verify' untouched openssl dgst -sha256 -verify soft-ec.pub -signature sig message
ok 'req -x509' untouched openssl req -x509 -key soft-rsa.key -subj /CN=x -days 2 -out x.crt
ok 'genpkey' untouched openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key
ok 'digest' untouched openssl dgst -sha256 message
ok 'reading a reference' untouched openssl pkey -in ec.ref -pubout -out ec.pub
if [ ! -s hsm.log ]; then report ok 'and nothing is logged'; else report 'NOT OK' 'nothing is logged' hsm.log; fi
unset HSM_LOG HSM_LOG_LEVEL

# Which functions of hsm.so ran? From callgrind, as "FILE FUNCTION". Allowed are start and end of the provider, and
# decoders and encoders saying that they are not concerned.
allowed='^(\?\?\?|conf\.c|config\.c|provider\.c|decoder\.c|secret\.c) ' # ???: the linkage table
allowed+='|^(slot\.c hsm_ctx_(new|free)|pin\.c pin_source_check|encoder\.c .*does_selection)'
executed() # COMMAND...
{
    rm -f callgrind.out
    valgrind -q --tool=callgrind --callgrind-out-file=callgrind.out "$@" >out 2>err </dev/null || return 1
    perl -ne '
        if (/^(ob|fl|fn)=\((\d+)\)(?: (.*))?/) {
            $name{$1}{$2} = $3 if defined $3;
            $now{$1} = $name{$1}{$2};
            if ($1 eq "fn" && ($now{ob} // "") =~ m{/hsm\.so$}) {
                ($file = $now{fl} // "?") =~ s{.*/}{};
                $seen{"$file $now{fn}"} = 1;
            }
        } elsif (/^(cfi|cfl|cob|cfn)=\((\d+)\)(?: (.*))?/) {
            %kind = (cfi => "fl", cfl => "fl", cob => "ob", cfn => "fn");
            $name{$kind{$1}}{$2} = $3 if defined $3;
        } elsif (/^f[ie]=\((\d+)\) (.*)/) {
            $name{fl}{$1} = $2;
        }
        END { print "$_\n" for sort keys %seen }' callgrind.out
}
for name in ec rsa; do
    executed openssl dgst -sha256 -sign soft-$name.key -out sig message >functions
    grep -Ev "$allowed" functions >concerned.log
    if grep -q OSSL_provider_init functions && [ ! -s concerned.log ]; then
        report ok "dgst -sign with a software $name key runs nothing else of ours"
    else
        report 'NOT OK' "dgst -sign with a software $name key runs nothing else of ours" concerned.log err
    fi
done
software_operations 'default first'
tls_operations 'default first' soft-ec

# The trap cases need other files than the shipped one
sed -e '/^default = default_sect$/d' -e 's/^hsm = hsm_sect$/&\ndefault = default_sect/' "$OPENSSL_CONF" >hsm-first.cnf
sed -e 's/^providers = provider_sect$/&\nalg_section = evp_sect/' "$OPENSSL_CONF" >preferred.cnf
printf '\n[evp_sect]\ndefault_properties = ?provider=hsm\n' >>preferred.cnf
for conf in hsm-first preferred; do
    echo "# $conf"
    export OPENSSL_CONF=$work/$conf.cnf
    software_operations $conf
    token_operations $conf
    tls_operations $conf soft-ec soft-rsa ec rsa ed
    ok "$conf: genpkey works" openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out any.pem
    ok "$conf: its result signs" openssl dgst -sha256 -sign any.pem -out sig message
done
export OPENSSL_CONF=$HSM_SOURCE_DIR/examples/openssl.cnf

echo '# the module is missing'
export OPENSSL_MODULES=$work
software_operations missing
fails 'missing: a reference is refused' . openssl dgst -sha256 -sign ec.ref -out sig message
fails 'missing: a URI is refused' . openssl pkeyutl -sign -inkey hsm:ec -in digest32 -out sig
export OPENSSL_MODULES=$HSM_MODULE_DIR

echo '# the token is missing'
export HSM_TOKEN=soft:$work/absent.db
software_operations 'no token'
ok 'no token: a reference can be read' openssl pkey -in ec.ref -pubout
fails 'no token: signing says why' . openssl pkeyutl -sign -inkey ec.ref -in digest32 -out sig
fails 'no token: a URI says which' 'absent.db' openssl pkeyutl -sign -inkey hsm:ec -in digest32 -out sig

echo '# the configuration of hsm is wrong'
export HSM_TOKEN=nonsense
software_operations 'wrong configuration'
fails 'wrong configuration: signing says why' 'nonsense' openssl pkeyutl -sign -inkey hsm:ec -in digest32 -out sig
finish
