#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on a fresh machine: a Dockerfile becomes a web page served by a real VM. `demo.sh clean` undoes it.
# Everything it makes lies in .cache/demo, except Debian packages and the base image in the image builder's store.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$PWD/.cache/demo
vm=my-nginx

# volar and fledge with a state of their own, so that the demo never meets VMs that are already here.
write_wrappers() {
    mkdir -p "$home/bin"
    local program
    for program in fledge volar volantd; do
        cat >"$home/bin/$program" <<END
#!/bin/sh
export VOLANT_HOME='$home/state'
exec '$home/venv/bin/$program' "\$@"
END
        chmod +x "$home/bin/$program"
    done
}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

# list_layers BUILDER IMAGE: the digests of its layers, base first.
list_layers() {
    case $1 in
        buildah) buildah inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{.}} {{end}}' "$2" ;;
        *) "$1" image inspect --format '{{range .RootFS.Layers}}{{.}} {{end}}' "$2" ;;
    esac 2>/dev/null
}

# The base image that the demo made, and what was built on it (builders keep every step's image as their cache).
remove_images() {
    local builder=$1 base layers image
    base=$(list_layers "$builder" localhost/debian:bookworm) || return 0
    local all=(images --all --quiet)
    for image in $("$builder" "${all[@]}" | sort -u); do
        layers=$(list_layers "$builder" "$image") || continue # went with one before
        [[ $layers != "$base"* ]] || "$builder" rmi --force "$image" >/dev/null 2>&1 || true
    done
}

clean() {
    if [ -x "$home/bin/volar" ]; then
        "$home/bin/volar" vms delete "$vm" --force 2>/dev/null || true
        "$home/bin/volar" plugins remove nginx 2>/dev/null || true
        "$home/bin/volar" daemon stop 2>/dev/null || true
    fi
    if [ -s "$home/made-base-image" ]; then
        remove_images "$(cat "$home/made-base-image")"
    fi
    rm -rf "$home" examples/nginx/nginx.tar.gz
    echo "removed what the demo made (installed Debian packages stay)"
}

if [ "${1:-}" = clean ]; then
    clean
    exit 0
fi

say "1/6 packages and programs"
scripts/install-debian-packages.sh demo
stamp=$(find requirements pyproject.toml hatch_build.py src kestrel dashboard -type f -not -path '*/agents/kestrel-*' \
    -not -path '*/dashboard/built/*' -not -path '*/node_modules/*' -not -name '*.pyc' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
if [ "$(cat "$home/venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
    scripts/make-demo-venv.sh "$home/venv"
    echo "$stamp" >"$home/venv/.stamp"
fi
write_wrappers
export PATH="$home/bin:$PATH"

say "2/6 a base image to say FROM, and a kernel to boot"
builder=$(fledge builder)
before=$(scripts/make-base-image.sh "$builder" "$home/cache")
if [ -n "$before" ]; then
    echo "$before"
    echo "$builder" >"$home/made-base-image"
fi
show volar setup kernel

say "3/6 Dockerfile to plugin"
cd examples/nginx
show fledge build

say "4/6 plugin to VM"
if volar vms get "$vm" >/dev/null 2>&1; then
    show volar vms delete "$vm" --force
fi
if ! show volar plugins install ./nginx.tar.gz; then
    # An older build of the same version is installed from an earlier run: nothing uses it any more.
    show volar plugins remove nginx
    show volar plugins install ./nginx.tar.gz
fi
show volar vms create "$vm" --plugin nginx
show volar vms list

say "5/6 the page"
ip=$(volar vms get "$vm" --output json | jq -r .ip)
url=$(volar vms get "$vm" --output json | jq -r .url)
if [ "$url" != "http://$ip" ]; then
    echo "port 80 cannot be bound by this user: using .url"
fi
show curl --silent --show-error --fail --max-time 20 "$url"

say "6/6 what to try next"
cat <<END
  export PATH=$home/bin:\$PATH
  curl $url
  volar vms logs $vm
  volar vms logs $vm --console
  volar vms ssh $vm
  volar vms stop $vm && volar vms start $vm
  make demo-clean
END
