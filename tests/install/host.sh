#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# host.sh prepare: makes a bare root a host that shutdown.sh can boot. host.sh answer|test: what that host does at each boot.
set -euo pipefail

apt_get() { apt-get -y -qq --no-install-recommends -o Acquire::Retries=5 "$@"; }
say() { printf '\nHOST: %s\n' "$*"; }
is_healthy() { [ "$(volar vms get web --output json | jq -r '.status + "/" + .health')" = running/healthy ]; }

prepare() {
    export DEBIAN_FRONTEND=noninteractive
    source /etc/fresh-environment
    apt-get -qq update
    apt_get install linux-image-cloud-amd64 initramfs-tools zstd systemd-sysv dbus kmod jq buildah busybox-static
    apt_get install /packages/*.deb
    volar setup kernel
    sed -i 's/^MODULES=.*/MODULES=list/' /etc/initramfs-tools/initramfs.conf
    printf 'virtio_pci\nvirtio_blk\next4\n' >>/etc/initramfs-tools/modules
    update-initramfs -u -k all
    printf 'irqbypass\nkvm\nkvm-amd\n' >/etc/modules-load.d/kvm.conf
    mkdir -p /etc/systemd/system/volantd.service.d
    printf '[Service]\nExecStartPre=/bin/bash /packages/host.sh answer\n' >/etc/systemd/system/volantd.service.d/kvm.conf
    mkdir -p /var/log/journal /packages/web
    cd /packages/web
    cp "$(command -v busybox)" busybox
    printf '%s\n' 'FROM scratch' 'COPY busybox /bin/busybox' 'EXPOSE 8080' \
        'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080"]' >Dockerfile
    fledge build
    cat >/etc/systemd/system/shutdown-test.service <<'END'
[Unit]
After=volantd.service volant-shutdown.service

[Service]
ExecStart=/bin/bash /packages/host.sh test
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0

[Install]
WantedBy=multi-user.target
END
    systemctl enable shutdown-test.service
    systemctl mask serial-getty@ttyS0.service
}

# KVM that is emulated on a busy machine is too slow for the daemon's probe: its answer is written down beforehand.
answer_probe() {
    /usr/lib/volant/bin/python3 - <<'END'
from pathlib import Path
from volant.volantd.boot.kernel import require_kernel
from volant.volantd.hypervisors.accelerator import AcceleratorProbe

cache = Path("/var/lib/volant/cache")
probe = AcceleratorProbe(cache)
probe._choose_accelerator = lambda *question: ("kvm", "a test says so")
kernel = require_kernel("amd64", cache / "kernels", None).image
print(probe.find_support("/usr/bin/qemu-system-x86_64", "amd64", kernel=kernel, firmware=False))
END
}

# The group that systemd made for the VM: what is in it, and what the kernel holds it to.
say_limits() {
    local group names
    group=$(echo "/sys/fs/cgroup/volant.slice/volant-$(volar vms get web --output json | jq -r .id)"-*.scope)
    [ -d "$group" ] || { say "no group: $(volar doctor | grep limits); $(journalctl --no-pager --output=cat -n 20 -u volantd)"; return; }
    names=$(for pid in $(cat "$group/cgroup.procs"); do cat "/proc/$pid/comm"; done | sort | paste -sd' ')
    say "limits $(cd "$group" && cat memory.max cpu.max pids.max | paste -sd' ') of $names"
}

# Whatever happens, the machine ends: what it has said is the verdict.
run_test() {
    trap 'systemctl poweroff' EXIT
    export HOME=/root
    if ! volar vms get web >/dev/null 2>&1; then
        say "first boot"
        volar plugins install /packages/web/web.tar.gz
        volar vms create web --plugin web
        is_healthy && say "the VM is healthy"
        say_limits
        # Beside a VM that runs on in a group of its own the daemon starts again as ever.
        kill -9 "$(systemctl show --property MainPID --value volantd.service)"
        for _ in $(seq 60); do
            if is_healthy; then
                say "the VM is healthy beside a new daemon"
                break
            fi
            sleep 2
        done
        say_limits
        trap - EXIT
        systemctl reboot
        return
    fi
    say "second boot"
    say "$(journalctl --no-pager --output=cat --boot=-1 --unit=volant-shutdown.service | grep '^stopped')"
    # Written by the guest's kernel at its own end, and by none that was killed.
    grep -aq 'reboot: Power down' /var/lib/volant/vms/*/console.log && say "the guest powered off"
    for _ in $(seq 60); do
        if is_healthy; then
            say "the VM is healthy again"
            break
        fi
        sleep 2
    done
}

case $1 in
    prepare) prepare ;;
    answer) answer_probe ;;
    test) run_test ;;
esac
