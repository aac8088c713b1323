#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-base-image.sh BUILDER CACHE: puts localhost/debian:bookworm into the store of docker, podman or buildah, once.
# The image is Debian's minimal system made by mmdebstrap (no registry needed); its tar stays in CACHE.
set -euo pipefail
builder=$1 cache=$2
image=localhost/debian:bookworm
case $builder in
    buildah) buildah inspect --type image "$image" >/dev/null 2>&1 && exit 0 ;;
    podman | docker) "$builder" image inspect "$image" >/dev/null 2>&1 && exit 0 ;;
    *) echo "unknown builder $builder: buildah, podman or docker" >&2; exit 2 ;;
esac
tar=$cache/debian-bookworm.tar
if [ ! -s "$tar" ]; then
    mkdir -p "$cache"
    echo "making a Debian base image with mmdebstrap (once, about a minute)"
    # A fixed time makes the image, and so the plugin's bytes, the same for the same package versions.
    mode=unshare; [ "$(id -u)" = 0 ] && mode=root
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600} mmdebstrap --mode=$mode --variant=minbase --quiet \
        bookworm "$tar.part"
    mv "$tar.part" "$tar"
fi
case $builder in
    buildah)
        container=$(buildah from scratch)
        trap 'buildah rm "$container" >/dev/null' EXIT
        buildah add --quiet "$container" "$tar" / >/dev/null
        buildah config --cmd /bin/bash "$container"
        buildah commit --quiet "$container" "$image" >/dev/null
        ;;
    podman | docker) "$builder" import --change 'CMD ["/bin/bash"]' "$tar" "$image" >/dev/null ;;
esac
echo "$image is in $builder's store"
