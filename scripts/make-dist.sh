#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-dist.sh FOLDER: wheel, source archive, Debian packages, SBOM and checksums of this checkout.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
source scripts/find-python.sh
source scripts/take-your-time.sh
command -v dpkg-deb >/dev/null || { echo "cannot make Debian packages: no dpkg-deb (package dpkg)" >&2; exit 7; }
tools=$PWD/.cache/dist-tools
if ! cmp -s requirements/dist.lock "$tools/.lock"; then
    rm -rf "$tools"
    make_python_environment "$tools"
    take_your_time "fetching what makes packages" \
        "$tools/bin/python" -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/dist.lock
    cp requirements/dist.lock "$tools/.lock"
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(scripts/source-date.sh)}
export SOURCE_DATE_EPOCH
rm -rf "$folder"
mkdir -p "$folder"
take_your_time "building the wheel, with the guest agent in it" scripts/make-wheel.sh "$folder" sdist
# Go, which tells what the agent is made of, came with the tools that built the wheel.
PATH="$PWD/.cache/build-tools/bin:$PATH" take_your_time "making the Debian packages" \
    "$tools/bin/python" scripts/release "$folder"
(cd "$folder" && sha256sum -- * >.sums && mv .sums SHA256SUMS && cat SHA256SUMS)
