#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What run.sh does in the bare root: first with the network, for packages and the kernel, then in a network namespace.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
source /etc/fresh-environment

say() { printf '\n=== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
# check WHAT COMMAND...: the command succeeds, and its output is shown only if not.
check() {
    local what=$1
    shift
    if ! "$@" >/tmp/check.log 2>&1; then
        cat /tmp/check.log >&2
        fail "$what"
    fi
    echo "ok: $what"
}
contains() { grep -qF -- "$1" "$2"; }
apt_get() { apt-get -y -qq --no-install-recommends -o Acquire::Retries=5 "$@"; }
find_qemu() { pgrep -f 'qemu-system-x86_64 .*guest=web' || pgrep -x qemu-system-x86; }
read_page() {
    python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' \
        "$(volar vms get web --output json | jq -r .url)"
}
shows_page() { read_page | grep -qx 'installed'; }
wait_for_page() { for _ in $(seq 60); do shows_page 2>/dev/null && return; sleep 2; done; volar vms get web; return 1; }

with_network() {
    say "what a person types"
    apt-get -qq update
    apt_get install man-db pipx buildah crun busybox-static iproute2 jq procps >/tmp/tools.log 2>&1 || { cat /tmp/tools.log; exit 1; }
    local began=$SECONDS
    apt_get install /packages/first/*.deb >/tmp/install.log 2>&1 || { cat /tmp/install.log; fail "apt-get install"; }
    echo "ok: apt-get install ($((SECONDS - began)) s)"
    check "volar version" volar version
    check "fledge --help" fledge --help
    check "man page of each program" man -w fledge volar volantd kestrel
    check "man page renders" man -P cat volar
    check "completion" bash -c 'cd /usr/share && ls bash-completion/completions/{fledge,volar} \
        zsh/vendor-completions/_{fledge,volar} fish/vendor_completions.d/{fledge,volar}.fish'
    check "completion completes" bash -c '. /usr/share/bash-completion/completions/volar; COMP_WORDS=(volar vm) COMP_CWORD=1
        _volar_completion volar; [[ " ${COMPREPLY[*]} " == *" vms "* ]]'
    check "systemd finds no fault with the units" systemd-analyze verify --man=no volantd.service volant-shutdown.service
    check "the units are enabled" systemctl --root=/ is-enabled volantd.service volant-shutdown.service
    check "a group for the socket" getent group volant
    check "no compiled file is missing" test -f "$(echo /usr/lib/volant/lib/site-packages/volant/volar/__pycache__/cli.cpython-3*.pyc)"
    check "a kernel for guests" volar setup kernel
    say "pipx, without and with extras"
    check "pipx install" pipx install /packages/first/*.whl
    local fledge=$HOME/.local/bin/fledge status=0 command
    "$fledge" build /nowhere >/tmp/missing.log 2>&1 || status=$?
    [ "$status" = 7 ] || { cat /tmp/missing.log; fail "a missing extra ends with 7, not $status"; }
    command=$(sed -n 's/^try: //p' /tmp/missing.log)
    echo "it says: $command"
    check "that command" bash -c "$command"
    status=0
    "$fledge" build /nowhere >/tmp/missing.log 2>&1 || status=$?
    [ "$status" != 7 ] || { cat /tmp/missing.log; fail "the extra is still missing"; }
    check "pipx uninstall" pipx uninstall volant
}

without_network() {
    mount -t sysfs sysfs /sys
    ip link set lo up
    say "a plugin and a VM"
    mkdir /tmp/web
    cd /tmp/web
    cp "$(command -v busybox)" busybox
    echo installed >index.html
    printf '%s\n' 'FROM scratch' 'COPY busybox /bin/busybox' 'COPY index.html /www/index.html' 'EXPOSE 8080' \
        'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]' >Dockerfile
    check "fledge build, FROM scratch" fledge build
    check "volar plugins install" volar plugins install ./web.tar.gz
    check "volar vms create" volar vms create web --plugin web
    check "the page" wait_for_page
    local qemu
    qemu=$(find_qemu)

    say "upgrade while it runs"
    apt_get install /packages/next/*.deb >/tmp/upgrade.log 2>&1 || { cat /tmp/upgrade.log; fail "upgrade"; }
    [ "$(find_qemu)" = "$qemu" ] || fail "the VM did not survive the upgrade"
    check "it is adopted" bash -c '[ "$(volar vms get web --output json | jq -r .status)" = running ]'
    check "by the new daemon" bash -c '[ "$(volar version --output json | jq -r ".volar, .volantd" | uniq)" = 99.0.0 ]'
    check "the page after it" wait_for_page

    say "remove"
    apt_get remove volant volant-fledge volant-daemon >/tmp/remove.log 2>&1 || { cat /tmp/remove.log; fail "remove"; }
    contains "stopped: web" /tmp/remove.log || { cat /tmp/remove.log; fail "remove does not say what it stopped"; }
    ! find_qemu || fail "a VM runs on without a daemon"
    [ ! -e /usr/lib/volant ] || fail "left: $(find /usr/lib/volant | head -5)"
    [ -f /var/lib/volant/volant.db ] || fail "the state is gone"
    apt_get install /packages/next/*.deb >/tmp/again.log 2>&1 || { cat /tmp/again.log; fail "install again"; }
    check "what ran comes back" wait_for_page

    say "purge"
    apt_get purge volant volant-fledge volant-daemon >/tmp/purge.log 2>&1 || { cat /tmp/purge.log; fail "purge"; }
    contains "stay in /var/lib/volant" /tmp/purge.log || { cat /tmp/purge.log; fail "purge does not say what stays"; }
    ls /var/lib/volant/vms/*/ >/dev/null || fail "purge took a VM's disk"
    local left
    left=$(find /etc /usr /run /var/lib/systemd -name '*volant*' -not -path '/usr/share/*/packages/*' | head)
    [ -z "$left" ] || fail "left: $left"
    [ ! -e /var/lib/volant/cache ] || fail "left: the fetched kernel"
    echo "ok: what is ours is gone, and what is the user's stays"
}

if [ "${1:-}" = --without-network ]; then
    without_network
else
    with_network
    unshare --net --mount --propagation private bash "$0" --without-network
    say "all well"
fi
