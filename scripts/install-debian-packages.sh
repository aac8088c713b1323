#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install-debian-packages.sh demo|test: installs what is missing of debian-packages.txt. Asks for root only then.
set -euo pipefail
purpose=$1
folder=$(dirname "$0")
source "$folder/take-your-time.sh"
wanted=$(awk -v purpose="$purpose" '!/^#/ && NF && ($2 == "demo" || $2 == purpose) {print $1}' "$folder/debian-packages.txt")
missing=()
for package in $wanted; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "this is no Debian machine: install the equivalent of ${missing[*]} and run again" >&2
    exit 1
fi
# A mirror that is slow or stumbles is asked again; only a package that does not exist ends this.
apt_get=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600)
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n -l "${apt_get[@]}" update >/dev/null 2>&1 && ! { [ -t 0 ] && command -v sudo >/dev/null && sudo -v; }; then
        printf '%s\n' "these Debian packages are missing, and you may not install them (no sudo rights):" \
            "  ${missing[*]}" "ask an administrator to run this, then try again:" \
            "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
take_your_time "reading Debian's package lists" "${as_root[@]}" "${apt_get[@]}" update
take_your_time "installing Debian packages: ${missing[*]}" \
    "${as_root[@]}" "${apt_get[@]}" install -y --no-install-recommends "${missing[@]}"
