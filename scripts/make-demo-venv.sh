#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-demo-venv.sh VENV: builds the wheel from this checkout and installs it with its locked dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(realpath -m "$1")
source scripts/find-python.sh
[ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv"
pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install --require-hashes -r requirements/runtime.lock
"${pip[@]}" install --require-hashes -r requirements/build.lock
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
PATH="$venv/bin:$PATH" "${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$wheels" .
"${pip[@]}" install --no-deps --force-reinstall "$wheels"/volant-*.whl
