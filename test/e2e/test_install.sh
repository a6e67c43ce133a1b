#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, and the rules of the build: only one symbol leaves hsm.so, includes point downward.
# shellcheck source=test/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need cmake pkg-config cc nm readelf openssl jq

stage=$work/stage
modules=$(pkg-config --variable=modulesdir libcrypto)
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:[A-Z]*=//p' "$HSM_BUILD_DIR/CMakeCache.txt")

echo '# install'
ok 'cmake --install' env DESTDIR="$stage" cmake --install "$HSM_BUILD_DIR"
for file in "$modules/hsm.so" "$prefix/bin/hsmctl" "$prefix/include/hsm/hsm.h" "$prefix/include/hsm/error.h" \
    "$prefix/share/man/man1/hsmctl.1" "$prefix/share/man/man7/hsm-provider.7" \
    "$prefix/share/doc/hsm/examples/openssl.cnf"; do
    ok "$file" test -s "$stage$file"
done
pc=$(find "$stage" -name hsm.pc)
ok 'a pkg-config file' test -s "$pc"
same 'no header but those of include/hsm' "$(cd "$stage$prefix/include" && find . -type f | sort)" \
    "$(cd "$HSM_SOURCE_DIR/include" && find . -name '*.h' | sort)"
ok 'the installed module loads' env OPENSSL_MODULES="$stage$modules" openssl list -providers -provider hsm
ok 'the installed hsmctl runs' "$stage$prefix/bin/hsmctl" --version
ok 'the manual pages are readable by man' sh -c "for page in '$stage$prefix'/share/man/man?/*; do
    grep -q '^\.TH ' \"\$page\" && grep -q '^\.SH NAME' \"\$page\" || exit 1; done"

echo '# a program that uses the library'
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$stage
cat >"$work/user.c" <<'END'
#include <stdio.h>
#include <hsm/hsm.h>

static hsm_status each(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    (void)arg;
    (void)tok;
    return puts(obj->label) < 0 ? HSM_ERR_INTERNAL : HSM_OK;
}

int main(void)
{
    struct hsm_config *cfg = NULL;
    struct hsm_ctx *ctx = NULL;
    struct hsm_token *tok = NULL;
    hsm_status st;

    if ((st = hsm_config_new(&cfg)) != HSM_OK || (st = hsm_config_load_file(cfg, NULL, NULL)) != HSM_OK ||
        (st = hsm_config_finish(cfg)) != HSM_OK || (st = hsm_ctx_new(cfg, &ctx)) != HSM_OK ||
        (st = hsm_token_find(ctx, NULL, &tok)) != HSM_OK || (st = hsm_find(tok, NULL, each, NULL)) != HSM_OK)
        fprintf(stderr, "%s\n", hsm_error_text(st));
    hsm_ctx_free(ctx);
    return st != HSM_OK;
}
END
read -r -a cflags <<<"$(pkg-config --cflags hsm)"
read -r -a libs <<<"$(pkg-config --libs --static hsm)"
ok 'compiles and links by pkg-config --static' cc -std=c11 -Wall -Wextra -Werror "${cflags[@]}" "$work/user.c" \
    -o "$work/user" "${libs[@]}"
make_token
make_key listed ec:P-256
ok 'and lists the keys of a token' "$work/user"
same 'by their labels' "$(cat "$work/out")" listed
for header in "$stage$prefix"/include/hsm/*.h; do
    ok "$(basename "$header") stands alone" cc -std=c11 -Wall -Wextra -Werror "${cflags[@]}" \
        -include "$header" -fsyntax-only -x c /dev/null
done

echo '# the module'
nm -D --defined-only "$stage$modules/hsm.so" | sed 's/@.*//' | awk '$2 != "A" { print $3 }' >"$work/out"
same 'only OSSL_provider_init is visible' "$(cat "$work/out")" OSSL_provider_init
ok 'linked nodelete' sh -c "readelf -d '$stage$modules/hsm.so' | grep -q NODELETE"
ok 'linked relro and now' sh -c "readelf -d '$stage$modules/hsm.so' | grep -q BIND_NOW"
ok 'no library of ours is needed at run time' not sh -c "ldd '$stage$modules/hsm.so' | grep hsm_"
ok 'no atexit, no signal handler' not sh -c \
    "nm -D --undefined-only '$stage$modules/hsm.so' | grep -w -e atexit -e on_exit -e signal -e sigaction"

echo '# includes point downward'
# compile_as SOURCE INCLUDE: would this line compile where SOURCE is compiled?
compile_as()
{
    local command

    printf '#include "%s"\nint downward;\n' "$2" >"$work/probe.c"
    command=$(jq -r --arg file "$HSM_SOURCE_DIR/$1" 'map(select(.file == $file))[0].command // empty' \
        "$HSM_BUILD_DIR/compile_commands.json")
    [ -n "$command" ] || return 125
    # the same flags for another file, checked only
    eval "words=($(sed -E 's/ -o [^ ]+//; s/ -c [^ ]+//' <<<"$command"))" # as the shell of the build tool would split it
    (cd "$HSM_BUILD_DIR" && "${words[@]}" -fsyntax-only "$work/probe.c")
}
driver=$(cd "$HSM_SOURCE_DIR" && find hsm_core/drivers/soft -name '*.c' | sort | head -n 1)
ok 'a driver sees driver.h' compile_as "$driver" hsm/driver.h
fails 'a driver does not see the provider' 'No such file' compile_as "$driver" prov.h
fails 'a driver does not see the core' 'No such file' compile_as "$driver" hsm_core/internal.h
ok 'the core sees its own header' compile_as hsm_core/hsm.c internal.h
fails 'the core does not see the provider' 'No such file' compile_as hsm_core/hsm.c prov.h
fails 'the core does not see the tools' 'No such file' compile_as hsm_core/hsm.c tool.h
fails 'the codecs do not see the core' 'No such file' compile_as hsm_core/codec/keyref.c internal.h
provider=$(cd "$HSM_SOURCE_DIR" && find provider -name '*.c' | sort | head -n 1)
ok 'the provider sees the library' compile_as "$provider" hsm/hsm.h
fails 'the provider does not see the core' 'No such file' compile_as "$provider" internal.h
fails 'the provider does not see a driver' 'No such file' compile_as "$provider" drivers/soft/internal.h
fails 'the provider does not see the codecs' 'No such file' compile_as "$provider" der.h
fails 'hsmctl does not see the provider' 'No such file' compile_as tools/main.c prov.h
fails 'hsmctl does not see the core' 'No such file' compile_as tools/main.c internal.h
finish
