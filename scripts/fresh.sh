#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fresh.sh STEP...: what a newcomer gets. Builds a bare Debian (what a cloud image has, and no tool of ours), clones this
# project's HEAD into it and types README's commands there, in namespaces of its own: nothing of this machine's
# software is seen, and nothing is left when it ends. Each step has a root of its own; of STEP+STEP the second has what
# the first leaves. Needs root and mmdebstrap.
#
#   packages  every package of the list exists here and in the next Debian; nobody is refused without being told which
#   demo      `make demo` and `make demo-clean` as root
#   user      the same as an ordinary user: without rights (told what to ask for), with sudo for packages, and without
#   install   README's lines as an ordinary user: `make install` and `make uninstall`, `pipx install`
#   test      `make test` as root; FRESH_TEST=make-target runs another target in its place
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/bare-root.sh

say() { printf '\n\033[1m=== fresh machine: %s\033[0m\n' "$*"; }

# as_typed USER COMMAND...: the command in the clone, as a log-in shell of that user would run it.
as_typed() {
    local user=$1
    shift
    printf '[%s]$ %s\n' "$user" "$*"
    su "$user" -s /bin/bash -c ". /etc/fresh-environment; export USER=$user; cd /home/volant && $*"
}

check_page() { # the last demo's page, and the words that README promises
    grep -q 'Hello from Volant!' "$1" || { echo "the demo showed no page" >&2; return 1; }
}

check_nothing_left() {
    local left
    left=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -E '^[^ ]*/(qemu-system-[^/ ]*|volantd|passt[^/ ]*)$' || true)
    [ -z "$left" ] || { echo "left running: $left" >&2; return 1; }
    [ ! -e /home/volant/.cache/demo ] || { echo "left: .cache/demo" >&2; return 1; }
    [ -z "$(cd /home/volant && git status --porcelain)" ] || { echo "left files in the clone" >&2; return 1; }
}

prepare_clone() { # what README asks for before its first command, for the owner of the clone
    apt-get update -qq -o Acquire::Retries=5
    apt-get install -y -qq --no-install-recommends -o Acquire::Retries=5 git make >/dev/null 2>&1
    git config --system --add safe.directory /home/volant
}

inside_demo() {
    prepare_clone
    as_typed root make demo 2>&1 | tee /tmp/demo.log
    check_page /tmp/demo.log
    as_typed root make demo-clean
    check_nothing_left
    [ -z "$(buildah images --quiet 2>/dev/null)" ] || { echo "left images: $(buildah images)" >&2; return 1; }
}

inside_user() {
    prepare_clone
    useradd --create-home --shell /bin/bash newcomer
    chown -R newcomer: /home/volant
    if as_typed newcomer make demo >/tmp/refused.log 2>&1; then
        echo "a user without rights was not refused" >&2
        return 1
    fi
    grep -q 'apt-get install -y --no-install-recommends' /tmp/refused.log || { cat /tmp/refused.log; return 1; }
    echo 'newcomer ALL=(root) NOPASSWD: /usr/bin/env DEBIAN_FRONTEND=noninteractive apt-get *' >/etc/sudoers.d/newcomer
    as_typed newcomer make demo 2>&1 | tee /tmp/demo.log
    check_page /tmp/demo.log
    rm /etc/sudoers.d/newcomer
    as_typed newcomer make demo 2>&1 | tee /tmp/demo.log
    check_page /tmp/demo.log
    as_typed newcomer make demo-clean
    check_nothing_left
}

inside_install() {
    prepare_clone
    useradd --create-home --shell /bin/bash newcomer
    chown -R newcomer: /home/volant
    if as_typed newcomer make install >/tmp/refused.log 2>&1 || [ "$(grep -vc '^\(\[newcomer\]\|make: \)' /tmp/refused.log)" != 1 ]; then
        cat /tmp/refused.log
        echo "a machine without venv was not refused in one line" >&2
        return 1
    fi
    apt-get install -y -qq --no-install-recommends -o Acquire::Retries=5 python3-venv pipx >/dev/null 2>&1
    as_typed newcomer make install
    as_typed newcomer '~/.local/bin/volar version && ~/.local/bin/fledge init /tmp/skeleton'
    as_typed newcomer make uninstall
    as_typed newcomer "pipx install '.[all]'"
    as_typed newcomer '~/.local/bin/volar version && ~/.local/bin/fledge validate /tmp/skeleton'
    as_typed newcomer pipx uninstall volant
}

inside_test() {
    prepare_clone
    as_typed root "make ${FRESH_TEST:-test}"
}

# The names in the list: those of this Debian by installing them above; those of the next one by its own package index.
check_package_names() {
    local state package mirror missing=()
    state=$(mktemp -d)
    mkdir -p "$state"/{lists/partial,cache}
    # From where this machine has its own.
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk '$2 == "bookworm" {print $1; exit}')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$state/sources"
    local apt=(-o Dir::State::Lists="$state/lists" -o Dir::Etc::SourceList="$state/sources" -o Dir::Etc::SourceParts=-
        -o Dir::Cache="$state/cache" -o Acquire::Retries=5 -o APT::Sandbox::User=root)
    take_your_time "reading the package lists of Debian 13" apt-get "${apt[@]}" update
    for package in $(awk '!/^#/ && NF {print $1}' scripts/debian-packages.txt) git make; do
        apt-cache "${apt[@]}" show "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    rm -rf "$state"
    [ ${#missing[@]} -eq 0 ] || { echo "Debian 13 has no package ${missing[*]}" >&2; return 1; }
}

main() {
    [ "$(id -u)" = 0 ] || { echo "fresh.sh makes namespaces and a root: run it as root" >&2; exit 1; }
    grep -qx 'make demo' README.md && grep -q '^make test' README.md || { echo "README's commands have changed" >&2; exit 1; }
    make_bare_root
    local step root part
    for step in "$@"; do
        say "$step"
        if [ "$step" = packages ]; then check_package_names; continue; fi
        root=$(mktemp -d "${FRESH_FOLDER:-/var/tmp}/volant-fresh.XXXXXX")
        # shellcheck disable=SC2064  # the folder of now
        trap "remove_root '$root'" EXIT
        unpack_root "$root"
        for part in ${step//+/ }; do
            in_root "$root" bash /home/volant/scripts/fresh.sh --inside "$part"
        done
        remove_root "$root"
    done
    say "all well: $*"
}

if [ "${1:-}" = --inside ]; then
    . /etc/fresh-environment
    "inside_$2"
else
    main "$@"
fi
