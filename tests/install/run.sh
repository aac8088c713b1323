#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh DIST: what `make dist` left in DIST, in a bare Debian: installed by apt, used, upgraded to a second build while a VM
# runs, removed, installed again and purged; and the wheel by pipx. Needs root; everything lies in one folder that goes.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "tests/install/run.sh makes namespaces and a root: run it as root" >&2; exit 1; }
source scripts/bare-root.sh
dist=$(realpath "$1")
work=$(mktemp -d /var/tmp/volant-install.XXXXXX)
trap 'remove_root "$work"' EXIT

# The second build comes from a clone, as anybody's would, and is newer by its version alone.
build_next() {
    git clone --quiet --no-hardlinks . "$work/source"
    sed -i 's/^__version__ = ".*"$/__version__ = "99.0.0"/' "$work/source/src/volant/__init__.py"
    sed -i 's/^var version = ".*"$/var version = "99.0.0"/' "$work/source/kestrel/cmd/kestrel/main.go"
    mkdir "$work/source/.cache"
    ln -s "$PWD"/.cache/{build-tools,dist-tools,dist-libraries} "$work/source/.cache/"
    "$work/source/scripts/make-dist.sh" "$work/next"
}

(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
take_your_time "building the version to upgrade to, from a clone" build_next
make_bare_root
unpack_root "$work/root"
mkdir "$work/root/packages"
cp -r "$dist" "$work/root/packages/first"
cp -r "$work/next" "$work/root/packages/next"
rm -rf "$work/source" "$work/next"
cp tests/install/inside.sh "$work/root/packages/"
in_root "$work/root" bash /packages/inside.sh
