# SPDX-License-Identifier: Apache-2.0
"""Kernel modules on demand: what the kernel asks for by itself, in an image without any userland for it, and Docker."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.busybox_guest import assert_all_passed, make_busybox_root, make_script, write_image
from support.busybox_image import make_busybox_tar
from support.guest_harness import GuestHarness, make_disk, make_harness, write_file


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("modules"))


MODPROBE = "/run/kestrel/bin/modprobe"  # a busybox shell may take its own for the bare name

# Each asks the kernel for something that it has not: nothing here runs modprobe but where the name says so.
ON_DEMAND = {
    "a boot needs few modules": 'test "$(wc -l </proc/modules)" -le 20 && '
    '! grep -qE "^(overlay|bridge|tun) " /proc/modules',
    "overlay": "mkdir -p /o/u /o/w /o/m && mount -t tmpfs none /o && mkdir /o/u /o/w /o/m && "
    "mount -t overlay -o lowerdir=/bin,upperdir=/o/u,workdir=/o/w none /o/m && test -x /o/m/busybox",
    "bridge": "ip link add br0 type bridge && ip link set br0 up",
    "veth": "ip link add v0 type veth peer name v1 && ip link set v0 master br0",
    "wireguard": "ip link add wg0 type wireguard && ip addr add 10.9.0.1/24 dev wg0 && ip link set wg0 up",
    "tun": 'until test -e /dev/net/tun; do sleep 0.1; done; test "$(stat -c %a /dev/net/tun)" = 666 && '
    ': </dev/net/tun && grep -q "^tun " /proc/modules',
    "btrfs": "! mount -t btrfs none /mnt && grep -q btrfs /proc/filesystems",
    "xfs": "! mount -t xfs none /mnt && grep -q xfs /proc/filesystems",
    "nfs": "! mount -t nfs 127.0.0.1:/ /mnt && grep -q nfs /proc/filesystems",
    "loop": "dd if=/dev/zero of=/disk bs=1M count=1 && losetup -f /disk",
    "kvm": 'until test -e /dev/kvm; do sleep 0.1; done; test "$(stat -c %a /dev/kvm)" = 666 && : </dev/kvm && '
    'grep -q "^kvm_amd " /proc/modules',
    "modprobe by name": f"{MODPROBE} sch-netem && test -e /sys/module/sch_netem",
    "modprobe with parameters": f'{MODPROBE} dummy numdummies=3 && test "$(ls -d /sys/class/net/dummy* | wc -l)" = 3',
    "modprobe -r": f"{MODPROBE} -r dummy && ! test -e /sys/module/dummy",
    "modprobe of nothing": f'test "$({MODPROBE} nonesuch 2>&1)" = "modprobe: nonesuch: this kernel has no such module"',
    "a blacklisted alias": "mkdir -p /etc/modprobe.d && echo blacklist sctp >/etc/modprobe.d/no.conf && "
    f"! {MODPROBE} net-pf-2-proto-132-type-1 && ! test -e /sys/module/sctp",
    "only root loads": f'su nobody -s /bin/sh -c "! {MODPROBE} sctp" && ! test -e /sys/module/sctp',
    "the image has its own": "busybox modprobe sctp && test -e /sys/module/sctp",
    "lib/modules": "test -s /lib/modules/$(uname -r)/modules.dep",
    "read-only": "! touch /lib/modules/$(uname -r)/x && ! touch /run/kestrel/modules/x",
    "helper of the kernel": 'test "$(cat /proc/sys/kernel/modprobe)" = /run/kestrel/bin/modprobe',
}


def test_the_kernel_gets_what_it_asks_for_without_any_userland(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    for name in ("modprobe", "rmmod", "insmod"):
        (root / "bin" / name).unlink(missing_ok=True)
    (root / "mnt").mkdir()
    write_file(root, "etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    write_file(root, "verify", make_script(ON_DEMAND), 0o755)
    write_image(root, ["/verify"])
    assert_all_passed(harness.run(make_disk(root, tmp_path / "disk.img"), vcpu=2), ON_DEMAND)


DOCKER_CONFIG = """\
exec:
  - name: docker
    command: /usr/sbin/dockerd
    args: [--log-level, error]
    stop_timeout: 60s
    health:
      exec: {command: docker, args: [info], interval: 2s, timeout: 60s, retries: 100}
  - {name: verify, command: /verify, run_once: true, depends_on: [docker]}
"""
IN_DOCKER = {
    "an image": "docker import /box.tar box",
    "a container": 'test "$(docker run --rm box echo hello)" = hello',
    "its port": 'docker run -d -p 8080:80 box sh -c "exec busybox httpd -f -p 80 -h /etc" && '
    "curl -sS --retry 60 --retry-delay 1 --retry-all-errors http://10.0.2.15:8080/passwd | grep -q ^root:",
    "on layers": 'docker info 2>/dev/null | grep -q "Storage Driver: overlay2"',
    "by nftables": "iptables --version | grep -q nf_tables && grep -q ^nft_compat /proc/modules",
    # Debian's own modprobe reads the tables that the host has made.
    "kmod": "/usr/sbin/modprobe -n -v btrfs | grep -q fs/btrfs/btrfs.ko && /usr/sbin/modprobe wireguard && "
    "lsmod | grep -q ^wireguard",
    "kmod by alias": "/usr/sbin/modprobe fs-xfs && grep -q xfs /proc/filesystems",
    "it ends": "docker ps -q | xargs docker kill",
}


def test_docker_runs_a_container_inside_a_guest(
    harness: GuestHarness, system_tar: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", str(system_tar), "-C", str(root)], check=True)
    make_busybox_tar(root / "box.tar")
    write_file(root, "verify", make_script(IN_DOCKER), 0o755)
    write_file(root, "etc/kestrel/config.yaml", DOCKER_CONFIG)
    disk = make_disk(root, tmp_path / "disk.img", "3G")
    shutil.rmtree(root)
    with harness.boot(disk, memory_mb=1024) as guest:
        guest.wait_for("verified", 400)
        assert_all_passed(guest.wait_for_end(200), IN_DOCKER)
