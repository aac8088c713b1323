#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-venv.sh VENV LOCK: a virtual environment with exactly the locked packages, and volant from this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(realpath -m "$1") lock=$2
source scripts/find-python.sh
source scripts/take-your-time.sh
[ -x "$venv/bin/python" ] || make_python_environment "$venv"
pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
take_your_time "fetching Python libraries" "${pip[@]}" install --require-hashes -r "$lock"
# --no-deps: the lock has them all; --no-build-isolation: hatchling and Go are in the lock as well.
PATH="$venv/bin:$PATH" take_your_time "installing volant from this checkout" \
    "${pip[@]}" install --no-deps --no-build-isolation --editable .
