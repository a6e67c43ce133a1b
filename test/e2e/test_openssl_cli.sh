#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The openssl command with keys in the token, by PEM reference and by URI. What it makes is verified by the same
# command with nothing of ours in its environment.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need openssl perl

make_token
make_ca
cd "$work" || exit 1

# name type pairs; every name is used as NAME.ref and as hsm:NAME
for key in ec=ec:P-256 ec384=ec:P-384 ec521=ec:P-521 k1=ec:secp256k1 bp=ec:brainpoolP256r1 rsa=rsa:2048 rsa3k=rsa:3072 \
    ed=ed25519 ed448=ed448 xch=x25519; do
    make_key "${key%%=*}" "${key#*=}"
    hsmctl key show "${key%%=*}" --pubout >"${key%%=*}.pub" || report 'NOT OK' "public key of $key"
done
head -c 32 /dev/urandom >digest32
head -c 20 /dev/urandom >digest20
head -c 5000 /dev/urandom >message

echo '# genpkey'
generate() # LABEL OPTION...
{
    local label=$1

    shift
    ok "genpkey $*" openssl genpkey -propquery provider=hsm "$@" -pkeyopt "hsm-label:$label" -out "$label.pem"
    same "$label.pem is a reference" "$(head -n 1 "$label.pem")" '-----BEGIN HSM KEY REFERENCE-----'
    hsmctl key show "$label" --pubout >token.pub
    same "$label is in the token" "$(soft openssl pkey -pubin -in token.pub -outform DER | sha256sum)" \
        "$(openssl pkey -in "$label.pem" -pubout -outform DER | sha256sum)"
}
generate gen-ec -algorithm EC -pkeyopt ec_paramgen_curve:P-256
generate gen-ec384 -algorithm EC -pkeyopt group:P-384
generate gen-rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
generate gen-pss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
generate gen-ed -algorithm ED25519
generate gen-ed448 -algorithm ED448
generate gen-x -algorithm X25519
fails 'genpkey never overwrites' . openssl genpkey -propquery provider=hsm -algorithm EC \
    -pkeyopt ec_paramgen_curve:P-256 -pkeyopt hsm-label:gen-ec -out again.pem
fails 'genpkey refuses RSA-1024' . openssl genpkey -propquery provider=hsm -algorithm RSA \
    -pkeyopt rsa_keygen_bits:1024 -pkeyopt hsm-label:small -out small.pem
before=$(hsmctl key list --json | grep -c '"label"')
ok 'genpkey without a property query makes a software key' openssl genpkey -algorithm EC \
    -pkeyopt ec_paramgen_curve:P-256 -out software.key
same 'it is a plain PEM key' "$(head -n 1 software.key)" '-----BEGIN PRIVATE KEY-----'
same 'and nothing was added to the token' "$before" "$(hsmctl key list --json | grep -c '"label"')"
ok 'genpkey without a label finds a name' openssl genpkey -propquery provider=hsm -algorithm ED25519 -out unnamed.pem
same 'that key is in the token' "$((before + 1))" "$(hsmctl key list --json | grep -c '"label"')"
ok 'and signs' openssl pkeyutl -sign -rawin -inkey unnamed.pem -in message -out sig

for form in ref uri; do
    key() { if [ $form = ref ]; then echo "$work/$1.ref"; else echo "hsm:$1"; fi; }

    echo "# pkey, key by $form"
    for name in ec ec384 k1 rsa ed ed448 xch; do
        ok "pkey -pubout $name" openssl pkey -in "$(key $name)" -pubout -out out.pub
        same "it is the token's public key" "$(cat out.pub)" "$(cat $name.pub)"
        ok "pkey -text $name" openssl pkey -in "$(key $name)" -noout -text
        if grep -Eqi '^ *(priv|privateExponent|prime1|exponent1):' out; then
            report 'NOT OK' "pkey -text $name shows a private part" out
        fi
        ok "pkey -check $name" openssl pkey -in "$(key $name)" -noout -check
        ok "pkey writes $name as a reference" openssl pkey -in "$(key $name)" -out copy.pem
        same "with our label" "$(head -n 1 copy.pem)" '-----BEGIN HSM KEY REFERENCE-----'
    done

    echo "# pkeyutl, key by $form"
    for name in ec ec384 ec521 k1 bp rsa rsa3k; do
        ok "pkeyutl -sign $name" openssl pkeyutl -sign -inkey "$(key $name)" -in digest32 -out sig
        ok "verified in software" soft openssl pkeyutl -verify -pubin -inkey $name.pub -in digest32 -sigfile sig
        ok "pkeyutl -verify $name" openssl pkeyutl -verify -inkey "$(key $name)" -in digest32 -sigfile sig
        fails "another digest is not verified" 'Failure' openssl pkeyutl -verify -inkey "$(key $name)" -in digest20 \
            -sigfile sig
    done
    for name in ec rsa ed ed448; do
        ok "pkeyutl -sign -rawin $name" openssl pkeyutl -sign -rawin -inkey "$(key $name)" -in message -out sig
        ok "verified in software" soft openssl pkeyutl -verify -rawin -pubin -inkey $name.pub -in message -sigfile sig
        ok "pkeyutl -verify -rawin $name" openssl pkeyutl -verify -rawin -inkey "$(key $name)" -in message -sigfile sig
    done
    for options in digest:sha256 'rsa_padding_mode:pss digest:sha256' \
        'rsa_padding_mode:pss digest:sha256 rsa_pss_saltlen:digest' \
        'rsa_padding_mode:pss digest:sha256 rsa_pss_saltlen:max' \
        'rsa_padding_mode:pss digest:sha256 rsa_pss_saltlen:auto' \
        'rsa_padding_mode:pss digest:sha256 rsa_pss_saltlen:20' 'rsa_padding_mode:pss digest:sha256 rsa_pss_saltlen:0' \
        'rsa_padding_mode:pss digest:sha256 rsa_mgf1_md:sha1'; do
        pkeyopts=()
        for option in $options; do
            pkeyopts+=(-pkeyopt "$option")
        done
        ok "pkeyutl -sign rsa $options" openssl pkeyutl -sign -inkey "$(key rsa)" -in digest32 -out sig "${pkeyopts[@]}"
        ok "verified in software" soft openssl pkeyutl -verify -pubin -inkey rsa.pub -in digest32 -sigfile sig \
            "${pkeyopts[@]}"
    done
    fails 'a salt that does not fit is refused' . openssl pkeyutl -sign -inkey "$(key rsa)" -in digest32 -out sig \
        -pkeyopt rsa_padding_mode:pss -pkeyopt digest:sha256 -pkeyopt rsa_pss_saltlen:400
    ok 'pkeyutl -verifyrecover rsa' openssl pkeyutl -sign -inkey "$(key rsa)" -in digest32 -out sig
    ok 'verifyrecover in software' soft openssl pkeyutl -verifyrecover -pubin -inkey rsa.pub -in sig -out recovered
    same 'the signed bytes come back' "$(sha256sum <recovered)" "$(sha256sum <digest32)"
    fails 'X25519 does not sign' . openssl pkeyutl -sign -inkey "$(key xch)" -in digest32 -out sig

    echo "# dgst, key by $form"
    for name in ec ec384 ec521 k1 bp rsa; do
        for digest in sha1 sha256 sha384 sha512 sha3-256; do
            ok "dgst -$digest -sign $name" openssl dgst -$digest -sign "$(key $name)" -out sig message
            ok "verified in software" soft openssl dgst -$digest -verify $name.pub -signature sig message
        done
        ok "dgst -prverify $name" openssl dgst -sha3-256 -prverify "$(key $name)" -signature sig message
    done
    ok 'dgst -sign rsa, PSS' openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 \
        -sign "$(key rsa)" -out sig message
    ok 'verified in software' soft openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 \
        -verify rsa.pub -signature sig message

    echo "# req, x509, ca, key by $form"
    for name in ec ec384 rsa ed ed448; do
        ok "req -new $name" openssl req -new -key "$(key $name)" -subj "/CN=$name" -out $name.csr
        ok 'verified in software' soft openssl req -in $name.csr -noout -verify
        ok "req -x509 $name" openssl req -x509 -key "$(key $name)" -subj "/CN=$name" -days 30 -out $name.self.crt
        ok 'verified in software' soft openssl verify -check_ss_sig -CAfile $name.self.crt $name.self.crt
        same 'its key is the token key' "$(public_key_of_certificate $name.self.crt)" "$(cat $name.pub)"
        ok "x509 -signkey $name" openssl x509 -in $name.self.crt -signkey "$(key $name)" -days 5 -out resigned.crt
        ok 'verified in software' soft openssl verify -check_ss_sig -CAfile resigned.crt resigned.crt
    done
    ok 'req -new rsa, PSS' openssl req -new -key "$(key rsa)" -subj /CN=pss -sigopt rsa_padding_mode:pss \
        -sigopt rsa_pss_saltlen:32 -sha256 -out pss.csr
    ok 'verified in software' soft openssl req -in pss.csr -noout -verify

    for name in ec rsa ed; do
        openssl req -x509 -key "$(key $name)" -subj "/CN=$name CA" -days 30 -out root.crt \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>err ||
            report 'NOT OK' "CA certificate $name" err
        soft openssl req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=leaf -out leaf.csr 2>err
        ok "x509 -req -CAkey $name" openssl x509 -req -in leaf.csr -CA root.crt -CAkey "$(key $name)" \
            -CAcreateserial -days 5 -out leaf.crt
        ok "verified in software" soft openssl verify -x509_strict -CAfile root.crt leaf.crt
        fails "x509 -req refuses a CA key that is not the certificate's" "match" openssl x509 -req -in leaf.csr \
            -CA root.crt -CAkey "$(key ec384)" -CAcreateserial -out wrong.crt
        rm -rf ca && mkdir ca && : >ca/index.txt && echo 01 >ca/serial && echo 01 >ca/crlnumber
        cat >ca.cnf <<-END
			[ca]
			default_ca = the_ca
			[the_ca]
			dir = $work/ca
			database = $work/ca/index.txt
			new_certs_dir = $work/ca
			serial = $work/ca/serial
			crlnumber = $work/ca/crlnumber
			default_md = default
			default_days = 5
			default_crl_days = 5
			policy = any
			[any]
			commonName = supplied
		END
        ok "ca with $name" openssl ca -config ca.cnf -batch -notext -in leaf.csr -cert root.crt \
            -keyfile "$(key $name)" -out leaf.crt
        ok 'verified in software' soft openssl verify -CAfile root.crt leaf.crt
        ok "ca -revoke with $name" openssl ca -config ca.cnf -revoke leaf.crt -cert root.crt -keyfile "$(key $name)"
        ok "ca -gencrl with $name" openssl ca -config ca.cnf -gencrl -cert root.crt -keyfile "$(key $name)" -out crl.pem
        ok 'CRL verified in software' soft openssl crl -in crl.pem -noout -CAfile root.crt
        fails 'the revoked certificate is seen' revoked soft openssl verify -crl_check -CAfile root.crt \
            -CRLfile crl.pem leaf.crt
    done

    echo "# cms, smime, ts, key by $form"
    for name in ec rsa; do # OpenSSL 3.0 has no CMS with Ed25519, in software neither
        issue $name "$(key $name)" signer
        ok "cms -sign $name" openssl cms -sign -binary -nodetach -outform DER -in message -signer $name.crt \
            -inkey "$(key $name)" -out message.cms
        ok 'verified in software' soft openssl cms -verify -inform DER -in message.cms -CAfile ca.pem -purpose any \
            -binary -out message.back
        same 'the content comes back' "$(sha256sum <message)" "$(sha256sum <message.back)"
    done
    for name in ec rsa; do
        ok "cms -sign -noattr $name" openssl cms -sign -binary -noattr -outform DER -in message -signer $name.crt \
            -inkey "$(key $name)" -out message.cms
        ok 'verified in software' soft openssl cms -verify -inform DER -in message.cms -content message \
            -CAfile ca.pem -purpose any -binary -out message.back
        ok "smime -sign $name" openssl smime -sign -binary -outform DER -in message -signer $name.crt \
            -inkey "$(key $name)" -out message.p7s
        ok 'verified in software' soft openssl smime -verify -inform DER -in message.p7s -content message \
            -CAfile ca.pem -purpose any -binary -out message.back
    done
    ok 'cms -sign rsa, PSS' openssl cms -sign -binary -nodetach -outform DER -in message -signer rsa.crt \
        -inkey "$(key rsa)" -keyopt rsa_padding_mode:pss -out message.cms
    ok 'verified in software' soft openssl cms -verify -inform DER -in message.cms -CAfile ca.pem -purpose any \
        -binary -out message.back
done

echo '# ts (takes files only)'
openssl req -new -key ec.ref -subj /CN=tsa -out tsa.csr 2>err
soft openssl x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 5 -out tsa.crt \
    -extfile <(echo extendedKeyUsage=critical,timeStamping) 2>err || report 'NOT OK' 'TSA certificate' err
cat >ts.cnf <<-END
	[tsa]
	default_tsa = the_tsa
	[the_tsa]
	serial = $work/ts.serial
	default_policy = 1.2.3.4
	signer_digest = sha256
	digests = sha256
END
ok 'ts -query' soft openssl ts -query -data message -sha256 -cert -out query.tsq
ok 'ts -reply' openssl ts -reply -config ts.cnf -queryfile query.tsq -signer tsa.crt -inkey ec.ref -out reply.tsr
ok 'verified in software' soft openssl ts -verify -queryfile query.tsq -in reply.tsr -CAfile ca.pem

echo '# storeutl'
ok 'a certificate goes into the token' hsmctl cert put ec ec.crt
ok 'storeutl lists the token' openssl storeutl -noout hsm:
cp out listing
grep -q 'Total found' listing || report 'NOT OK' 'storeutl prints a total' listing
ok 'storeutl -keys' openssl storeutl -noout -keys hsm:
same 'all keys are found' "$(grep -c 'Pkey$' out)" "$(hsmctl key list --json | grep -c '"label"')"
ok 'storeutl -certs' openssl storeutl -certs hsm:
soft openssl x509 -in out -outform DER -out got.der 2>err
same 'the certificate comes back' "$(sha256sum <got.der)" "$(soft openssl x509 -in ec.crt -outform DER | sha256sum)"
ok 'storeutl -text of one key' openssl storeutl -noout -text -keys hsm:rsa
ok 'x509 reads the certificate by URI' openssl x509 -in 'hsm:object=ec;type=cert' -noout -subject
ok 'pkey reads the public key by URI' openssl pkey -pubin -in 'hsm:object=ec;type=public' -pubout
same 'it is the right one' "$(cat out)" "$(cat ec.pub)"
fails 'an unknown key has a clear line' 'nothing' openssl pkey -in hsm:nothing -noout

echo '# TLS'
serve() # PORT, with what $1.. of server_options say
{
    exec openssl s_server -accept "127.0.0.1:$1" -quiet -www "${server_options[@]}"
}
get() # PORT OPTION...: one request; the answer must be the page of s_server
{
    local port=$1

    shift
    printf 'GET / HTTP/1.0\r\n\r\n' | "${client[@]}" timeout 20 openssl s_client -connect "127.0.0.1:$port" \
        -quiet -servername localhost -verify_return_error -verify_hostname localhost -CAfile ca.pem "$@" 2>&1
}
answers()
{
    get "$@" >page
    grep -q 'HTTP/1.0 200 ok' page
}
names_client() { answers "$@" && grep -q "CN *= *$expected_client" page; }

for form in ref uri; do
    for name in ec ec384 rsa ed; do
        issue $name "$(key $name)" localhost
        server_options=(-cert "$name.crt" -key "$(key $name)")
        client=(soft)
        if start_on_port server.log serve; then
            ok "s_server $name by $form, TLS 1.3" answers "$port" -tls1_3
            ok "s_server $name by $form, TLS 1.2" answers "$port" -tls1_2
            [ $name = rsa ] && ok 's_server rsa, PKCS#1 in TLS 1.2' answers "$port" -tls1_2 -sigalgs RSA+SHA256
            stop "$started"
        else
            report 'NOT OK' "s_server $name by $form starts" server.log
        fi
    done
done

soft openssl req -new -newkey rsa:2048 -nodes -keyout server.key -subj /CN=localhost -out server.csr 2>err
soft openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 5 -out server.crt \
    -extfile <(echo subjectAltName=DNS:localhost) 2>err
serve_software()
{
    exec env -u OPENSSL_CONF -u HSM_TOKEN openssl s_server -accept "127.0.0.1:$1" -quiet -www -cert server.crt \
        -key server.key -Verify 1 -verify_return_error -CAfile ca.pem
}
if start_on_port server.log serve_software; then
    client=()
    for form in ref uri; do
        for name in ec rsa ed; do
            expected_client=client-$name
            issue $name "$(key $name)" "client-$name"
            for version in -tls1_3 -tls1_2; do
                ok "s_client $name by $form, $version" names_client "$port" $version -cert $name.crt -key "$(key $name)"
            done
        done
    done
    client=(soft)
    if answers "$port" -tls1_2; then
        report 'NOT OK' 'a client without certificate is refused' page
    fi
    stop "$started"
else
    report 'NOT OK' 'software s_server starts' server.log
fi

echo '# hsm as the only provider'
alone() { OPENSSL_CONF=/dev/null "$@"; }
for name in ec rsa; do
    ok "pkeyutl -sign -provider hsm, $name" alone openssl pkeyutl -sign -provider hsm -inkey "hsm:$name" \
        -in digest32 -out sig
    ok 'verified in software' soft openssl pkeyutl -verify -pubin -inkey $name.pub -in digest32 -sigfile sig
    ok "beside what the configuration activates, $name" openssl pkeyutl -sign -provider hsm -inkey "hsm:$name" \
        -in digest32 -out sig
    ok 'verified in software' soft openssl pkeyutl -verify -pubin -inkey $name.pub -in digest32 -sigfile sig
done
ok 'pkeyutl -sign -rawin -provider hsm, ed' alone openssl pkeyutl -sign -rawin -provider hsm -inkey hsm:ed \
    -in message -out sig
ok 'verified in software' soft openssl pkeyutl -verify -rawin -pubin -inkey ed.pub -in message -sigfile sig
ok 'hsm and default by option only' alone openssl dgst -sha256 -provider default -provider hsm -sign hsm:ec \
    -out sig message
ok 'verified in software' soft openssl dgst -sha256 -verify ec.pub -signature sig message

finish
