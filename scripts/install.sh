#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall PREFIX: the programs, man pages and completion below PREFIX. State stays where it is.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
verb=$1 prefix=$(realpath -m "$2")
home=$prefix/lib/volant
programs=(fledge volar volantd)
source scripts/find-python.sh
source scripts/take-your-time.sh

# Whatever else lies at the names that we would write is somebody else's: a launcher of ours names our folder.
refuse_foreign() {
    local file
    for file in "${programs[@]/#/$prefix/bin/}"; do
        if [ -e "$file" ] && ! head -1 "$file" | grep -qF "$home/"; then
            echo "cannot $verb: $file is not of this installation; move it away, or choose another PREFIX" >&2
            exit 1
        fi
    done
    if [ -e "$home" ] && [ ! -e "$home/.volant" ]; then
        echo "cannot $verb: $home is not of this installation; move it away, or choose another PREFIX" >&2
        exit 1
    fi
}

# The new tree is made beside the old one and takes its place at once; nothing is installed by halves.
install_programs() {
    if ! mkdir -p "$prefix/bin" "$prefix/lib" 2>/dev/null || [ ! -w "$prefix/bin" ] || [ ! -w "$prefix/lib" ]; then
        echo "cannot install into $prefix: you may not write there; choose another PREFIX, or use sudo" >&2
        exit 1
    fi
    case $prefix in
        *[[:space:]]*) echo "cannot install into '$prefix': a launcher's first line takes no space" >&2; exit 1 ;;
    esac
    refuse_foreign
    work=$(mktemp -d "$prefix/lib/.volant-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_python_environment "$work/new"
    take_your_time "building the wheel, with the guest agent in it" make_wheel "$work/wheels"
    local pip=("$work/new/bin/python" -m pip --quiet --disable-pip-version-check)
    take_your_time "fetching Python libraries" "${pip[@]}" install --require-hashes -r requirements/runtime.lock
    "${pip[@]}" install --no-deps "$work"/wheels/volant-*.whl
    # pip has written the work folder's name into its scripts: the launchers below take their place.
    find "$work/new/bin" -type f ! -name 'python*' -delete
    touch "$work/new/.volant"
    [ ! -e "$home" ] || mv "$home" "$work/old"
    mv "$work/new" "$home"
    local program
    for program in "${programs[@]}"; do
        write_launcher "$program"
    done
    install_documents
}

# Each shell looks below the prefix's share folder by itself, for ~/.local as for /usr/local.
list_documents() {
    local page program
    for page in docs/man/*; do
        echo "man/man${page##*.}/$(basename "$page")"
    done
    for program in fledge volar; do
        echo "bash-completion/completions/$program zsh/site-functions/_$program fish/vendor_completions.d/$program.fish"
    done
}

install_documents() {
    local page program share=$prefix/share
    for page in docs/man/*; do
        install -D -m 644 "$page" "$share/man/man${page##*.}/$(basename "$page")"
    done
    mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
    for program in fledge volar; do
        "$prefix/bin/$program" completion bash >"$share/bash-completion/completions/$program"
        "$prefix/bin/$program" completion zsh >"$share/zsh/site-functions/_$program"
        "$prefix/bin/$program" completion fish >"$share/fish/vendor_completions.d/$program.fish"
    done
}

# What a build leaves in the checkout belongs to whom the checkout belongs to, with sudo too.
make_wheel() {
    local owner as_owner=()
    owner=$(stat -c %U .)
    mkdir "$1"
    if [ "$(id -u)" = 0 ] && [ "$owner" != root ]; then
        as_owner=(runuser -u "$owner" -- env HOME="$(getent passwd "$owner" | cut -d: -f6)")
        chmod 711 "$(dirname "$1")"
        chown "$owner" "$1"
    fi
    "${as_owner[@]}" scripts/make-wheel.sh "$1"
}

write_launcher() {
    local file=$prefix/bin/$1
    printf '#!%s\nfrom volant.programs import %s\n\n%s()\n' "$home/bin/python3 -I" "$1" "$1" >"$file.new"
    chmod 755 "$file.new"
    mv "$file.new" "$file"
}

say_what_next() {
    echo "installed $("$prefix/bin/volar" --version) into $prefix/bin"
    case :$PATH: in
        *:$prefix/bin:*) ;;
        *) echo "it is not on your PATH yet: export PATH=\"$prefix/bin:\$PATH\"" ;;
    esac
    if "$prefix/bin/volar" daemon status >/dev/null 2>&1; then
        echo "your volantd still runs as it was: 'volar daemon stop' lets the next command start the new one; VMs run on"
    fi
}

uninstall_programs() {
    refuse_foreign
    rm -rf "$home"
    rm -f "${programs[@]/#/$prefix/bin/}"
    local file
    for file in $(list_documents); do
        rm -f "$prefix/share/$file"
    done
    echo "removed from $prefix; plugins, VMs and their disks stay ('volar setup --remove' undoes what setup did)"
}

case $verb in
    install)
        install_programs
        say_what_next
        ;;
    uninstall) uninstall_programs ;;
esac
