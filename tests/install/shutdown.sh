#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shutdown.sh DIST: a host with systemd goes down and comes up again. Debian with the packages of DIST is booted in QEMU
# and runs a VM of ours; it reboots; the VM must have ended in order before, and run again after. Needs root.
# Without hardware virtualization the outer machine is translated, and emulates the KVM that the inner one boots with.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "tests/install/shutdown.sh makes namespaces and a root: run it as root" >&2; exit 1; }
source scripts/bare-root.sh
dist=$(realpath "$1")
work=$(mktemp -d /var/tmp/volant-shutdown.XXXXXX)
machine=
finish() {
    [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

make_bare_root
unpack_root "$work/root"
mkdir "$work/root/packages"
cp "$dist"/*.deb tests/install/host.sh "$work/root/packages/"
take_your_time "installing a host" in_root "$work/root" bash /packages/host.sh prepare
rm -r "$work/root/home/volant"
truncate -s 5G "$work/disk.img"
mke2fs -q -F -t ext4 -d "$work/root" "$work/disk.img"

# The guest's clock is the host's under translation, and cannot be calibrated on a busy host.
clock=$(awk -F: '/cpu MHz/ {printf "tsc=reliable tsc_early_khz=%d", $2 * 1000; exit}' /proc/cpuinfo)
qemu-system-x86_64 -machine q35 -accel tcg -cpu max,la57=off -smp 2 -m 3072 -nodefaults -display none \
    -serial "file:$work/console" -device virtio-rng-pci -drive "file=$work/disk.img,format=raw,if=virtio,cache=unsafe" \
    -kernel "$work"/root/boot/vmlinuz-* -initrd "$work"/root/boot/initrd.img-* \
    -append "root=/dev/vda rw console=ttyS0 $clock" &
machine=$!
take_your_time "a VM runs, the host reboots, the VM runs again" timeout 1200 tail --pid="$machine" -f /dev/null
machine=
tr '\r' '\n' <"$work/console" | sed -n '/^HOST: /p'
for word in 'the VM is healthy' 'limits [0-9].* of .*qemu-system' 'beside a new daemon' 'stopped: web' 'the guest powered off' 'the VM is healthy again'; do
    grep -aq "^HOST: .*$word" "$work/console" || {
        tr '\r' '\n' <"$work/console" | tail -80
        echo "FAILED: no word of: $word" >&2
        exit 1
    }
done
echo "all well"
