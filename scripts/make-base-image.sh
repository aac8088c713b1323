#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-base-image.sh BUILDER CACHE: puts localhost/debian:bookworm into the store of docker, podman or buildah, once.
# The image is Debian's minimal system (no registry needed); its tar stays in CACHE.
set -euo pipefail
builder=$1 cache=$2
image=localhost/debian:bookworm
case $builder in
    buildah) buildah inspect --type image "$image" >/dev/null 2>&1 && exit 0 ;;
    podman | docker) "$builder" image inspect "$image" >/dev/null 2>&1 && exit 0 ;;
    *) echo "unknown builder $builder: buildah, podman or docker" >&2; exit 2 ;;
esac
"$(dirname "$0")/make-base-tar.sh" "$cache"
tar=$cache/debian-bookworm.tar
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
