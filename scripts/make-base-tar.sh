#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-base-tar.sh CACHE: Debian's minimal system as CACHE/debian-bookworm.tar, made once by mmdebstrap.
set -euo pipefail
tar=$1/debian-bookworm.tar
[ -s "$tar" ] && exit 0
mkdir -p "$1"
echo "making a Debian base image with mmdebstrap (once, about a minute)"
mode=unshare
[ "$(id -u)" = 0 ] && mode=root
# A fixed time makes the image, and so the plugin's bytes, the same for the same package versions.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600} mmdebstrap --mode=$mode --variant=minbase --quiet \
    --format=tar bookworm "$tar.part"
mv "$tar.part" "$tar"
