#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-base-tar.sh CACHE: Debian's minimal system as CACHE/debian-bookworm.tar, made once by mmdebstrap.
set -euo pipefail
tar=$1/debian-bookworm.tar
[ -s "$tar" ] && exit 0
mkdir -p "$1"
source "$(dirname "$0")/take-your-time.sh"
mode=unshare
[ "$(id -u)" = 0 ] && mode=root
# A fixed time makes the image, and so the plugin's bytes, the same for the same package versions.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600}
take_your_time "making a Debian base image with mmdebstrap (once, about a minute)" \
    mmdebstrap --mode=$mode --variant=minbase --quiet --format=tar --aptopt='Acquire::Retries "5"' bookworm "$tar.part"
mv "$tar.part" "$tar"
