#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# prepare.sh DIR: put Debian's User-Mode Linux kernel (unpacked, not installed) and our adapter module, built for exactly
# that kernel, into DIR: DIR/linux.uml, DIR/lib/modules/*, DIR/i2c-userbus.ko, DIR/whole_xstate.so. Done before: only
# what has changed here is built anew. Works as any user. On failure one line on stderr; details are in DIR/log.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: prepare.sh DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$dir"
exec 9>lock
flock 9
exec 3>log

give_up()
{
    echo "uml: $1 (details: $dir/log)" >&2
    exit 1
}

# Package lists of our own if the system's are missing or too old to download from: needs no root
apt=(-q -q)
private_lists()
{
    mkdir -p apt/lists/partial apt/archives/partial
    apt=(-q -q -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt")
    apt-get "${apt[@]}" update >&3 2>&1
}

# The source must be of the kernel's upstream version. Debian ships it as a package; when that version has left the
# archive, the newest of the series with its version number set is close enough for a module of this size.
source_version()
{
    apt-cache "${apt[@]}" madison "$source_package" 2>&3 |
        awk -F'|' -v want="$version-" '{ gsub(" ", "", $2); if (index($2, want) == 1) { print "=" $2; exit } }'
}

download() # PACKAGE[=VERSION]
{
    local package=${1%%=*}

    rm -f "$package"_*.deb
    apt-get "${apt[@]}" download "$1" >&3 2>&1 && ls "$package"_*.deb >&3
}

fetch_kernel()
{
    download user-mode-linux || { private_lists && download user-mode-linux; } ||
        give_up 'cannot download the package user-mode-linux'
    dpkg-deb -x user-mode-linux_*.deb kernel
    version=$(ls kernel/usr/lib/uml/modules)
    mkdir -p lib
    ln -sfn ../kernel/usr/lib/uml/modules lib/modules
    ln -sfn kernel/usr/bin/linux.uml linux.uml
}

fetch_source()
{
    local exact

    source_package=linux-source-${version%.*}
    exact=$(source_version)
    [ -n "$exact" ] || echo "no $source_package of version $version: taking the newest" >&3
    download "$source_package$exact" || { private_lists && download "$source_package$(source_version)"; } ||
        give_up "cannot download the package $source_package"
    # what building a module needs, not the drivers: a tenth of it
    dpkg-deb --fsys-tarfile "$source_package"_*.deb | tar -xO "./usr/src/$source_package.tar.xz" | xz -dc |
        tar -x --wildcards --transform "s,^$source_package,source," \
            "$source_package"/{Makefile,Kbuild,include,arch/um,arch/x86,scripts,security/selinux/include} \
            "$source_package"/{kernel/'*.[ch]',kernel/time,kernel/sched} \
            "$source_package"/tools/{objtool,include,build,scripts} '*/Kconfig*' '*/Makefile' 2>&3 ||
        give_up "cannot unpack $source_package"
}

build() { make -s -C source ARCH=um "$@" >&3 2>&1; }

prepare_source()
{
    sed -i "s/^SUBLEVEL = .*/SUBLEVEL = ${version##*.}/" source/Makefile
    gzip -dc kernel/usr/share/doc/user-mode-linux/config.gz >source/.config
    build olddefconfig && build modules_prepare || give_up 'cannot prepare the kernel headers'
}

# same FILE: built from this very source before
same() { cmp -s "$here/$1" "module/$1"; }

build_module()
{
    mkdir -p module
    same i2c-userbus.c && [ -f i2c-userbus.ko ] && return
    rm -f i2c-userbus.ko
    cp "$here/i2c-userbus.c" "$here/Makefile" module/
    # no Module.symvers for a kernel whose objects we do not have: unresolved symbols are a warning
    build M="$dir/module" KBUILD_MODPOST_WARN=1 modules || give_up 'cannot build the module'
    modinfo -F vermagic module/i2c-userbus.ko | grep -q "^$version " ||
        give_up "the module is not for kernel $version"
    mv module/i2c-userbus.ko .
}

build_preload()
{
    same whole_xstate.c && [ -f whole_xstate.so ] && return
    rm -f whole_xstate.so
    cp "$here/whole_xstate.c" module/
    "${CC:-cc}" -D_GNU_SOURCE -O2 -Wall -shared -fPIC -o whole_xstate.new module/whole_xstate.c >&3 2>&1 ||
        give_up 'cannot build whole_xstate.so'
    mv whole_xstate.new whole_xstate.so
}

if [ ! -f prepared ]; then
    rm -rf kernel source module lib apt ./*.ko
    fetch_kernel
    fetch_source
    prepare_source
    rm -rf ./*.deb apt
    echo "$version" >prepared
fi
version=$(cat prepared)
build_module
build_preload
