#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install-debian-packages.sh demo|test: installs what is missing of debian-packages.txt. Asks for root only then.
set -euo pipefail
purpose=$1
list=$(dirname "$0")/debian-packages.txt
wanted=$(awk -v purpose="$purpose" '!/^#/ && NF && ($2 == "demo" || $2 == purpose) {print $1}' "$list")
missing=()
for package in $wanted; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "this is no Debian machine: install the equivalent of ${missing[*]} and run again" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
