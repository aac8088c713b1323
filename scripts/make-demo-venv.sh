#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-demo-venv.sh VENV: builds the wheel from this checkout and installs it with its locked dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(realpath -m "$1")
source scripts/find-python.sh
source scripts/take-your-time.sh
[ -x "$venv/bin/python" ] || make_python_environment "$venv"
pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
take_your_time "fetching Python libraries" \
    "${pip[@]}" install --require-hashes -r requirements/runtime.lock -r requirements/build.lock
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
PATH="$venv/bin:$PATH" take_your_time "building the wheel, with guest agent and dashboard" \
    "${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$wheels" .
"${pip[@]}" install --no-deps --force-reinstall "$wheels"/volant-*.whl
