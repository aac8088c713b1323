# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A bare Debian to try things in: made once a week, unpacked for each use, entered in namespaces of its own. Needs root.
cache=$PWD/.cache/fresh
source scripts/take-your-time.sh

make_bare_root() {
    local tar=$cache/debian-bookworm.tar
    # Older than a week: the mirror may no longer hold the versions that its package lists name.
    if [ -f "$tar" ] && [ -z "$(find "$tar" -mtime +7)" ]; then return; fi
    command -v mmdebstrap >/dev/null || scripts/install-debian-packages.sh demo
    mkdir -p "$cache"
    rm -rf --one-file-system "$tar" "$tar.part"
    take_your_time "making a bare Debian (once a week, about two minutes)" mmdebstrap --variant=minbase --quiet \
        --format=tar --include=sudo,ca-certificates,systemd --aptopt='Acquire::Retries "5"' bookworm "$tar.part"
    mv "$tar.part" "$tar"
}

# A root of its own under $1: unpacked, with this project's HEAD in it, and with this machine's way to its mirrors.
unpack_root() {
    local root=$1
    mkdir -p "$root"
    tar -x --exclude='./dev/*' -f "$cache/debian-bookworm.tar" -C "$root"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    printf '127.0.0.1 localhost\n127.0.1.1 fresh\n' >"$root/etc/hosts"
    echo fresh >"$root/etc/hostname"
    git clone --quiet --no-hardlinks . "$root/home/volant"
    # Environment that names a mirror or its certificates; nothing else of this machine comes in.
    env | grep -E '^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)|GOPROXY|GOSUMDB|SSL_CERT_FILE|CI|FRESH_TEST|PYTEST_ADDOPTS)=' |
        sed "s/=\(.*\)/='\1'/; s/^/export /" >"$root/etc/fresh-environment" || true
    grep -rhs '^ *Acquire::.*[Pp]roxy' /etc/apt/apt.conf /etc/apt/apt.conf.d >"$root/etc/apt/apt.conf.d/90mirror" || true
}

# remove_root ROOT: ends what this shell still runs in it (a signal may have come meanwhile), then takes its files away.
remove_root() {
    local runner first
    for runner in $(<"/proc/$$/task/$$/children"); do
        for first in $(cat "/proc/$runner/task/$runner/children" 2>/dev/null); do
            # The first process of its namespace: with it all others have ended when it is gone.
            kill -KILL "$first" 2>/dev/null || true
            while [ -e "/proc/$first" ]; do sleep 0.1; done
        done
    done
    rm -rf --one-file-system "$1"
}

# in_root ROOT COMMAND...: as root in namespaces of its own, with a /dev of its own. pivot_root and not chroot, since
# the kernel gives no user namespace to whoever is in a chroot, and image builders want one.
in_root() {
    local root=$1
    shift
    unshare --mount --pid --ipc --uts --fork --kill-child --propagation private \
        bash -euc '
            root=$1; shift
            mount --bind "$root" "$root"
            cd "$root"
            mount -t proc proc proc
            mount -t sysfs sysfs sys
            [ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup sys/fs/cgroup
            mount -t tmpfs -o mode=755 tmpfs dev
            mkdir dev/pts dev/shm dev/net
            mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
            mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
            mknod -m 666 dev/fuse c 10 229; mknod -m 666 dev/net/tun c 10 200; mknod dev/loop-control c 10 237
            for number in $(seq 0 31); do mknod dev/loop$number b 7 $number; done
            mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
            ln -s pts/ptmx dev/ptmx
            ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
            mount -t tmpfs -o mode=1777 tmpfs dev/shm
            mount -t tmpfs -o mode=755 tmpfs run
            mkdir -p run/lock .old
            hostname fresh
            pivot_root . .old
            umount -l /.old
            rmdir /.old
            exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
                TERM="${TERM:-dumb}" "$@"
        ' fresh "$root" "$@"
}
