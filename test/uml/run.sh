#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [BUILD-DIRECTORY]: the tests on a real /dev/i2c-7 inside User-Mode Linux, with the programs of a build directory
# (default: build). The kernel is fetched and prepared once, into BUILD-DIRECTORY/uml. See README.md.
# Prints one line "PART passed|failed NAME" for each part; exit 0 only if the guest lived to its end and all passed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
source_dir=$(cd "$here/../.." && pwd)
build_dir=$(cd "${1:-$source_dir/build}" && pwd) || exit 1
seconds=${HSM_UML_SECONDS:-600}

"$here/prepare.sh" "$build_dir/uml" || exit 1
exec "$here/umlrun" -t "$seconds" -d "$source_dir" -d "$build_dir" "$build_dir/uml" \
    env HSM_BUILD_DIR="$build_dir" bash "$here/inside.sh"
