# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# find_python: path of a Python 3.11 or newer that can make virtual environments.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "cannot find Python 3.11 or newer with venv: install it (Debian: apt-get install python3-venv), and run again" >&2
    return 1
}

# make_python_environment FOLDER: a virtual environment. A substitution in a command's place would not end the script.
make_python_environment() {
    local python
    python=$(find_python) || return
    "$python" -m venv "$1"
}
