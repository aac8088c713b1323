#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make-wheel.sh FOLDER [sdist]: the wheel of this checkout (and its source archive), built with the locked tools.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
source scripts/find-python.sh
# The tools, Go among them, are a third of a gigabyte: they are kept for the next time.
tools=$PWD/.cache/build-tools
if ! cmp -s requirements/build.lock "$tools/.lock"; then
    rm -rf "$tools"
    make_python_environment "$tools"
    "$tools/bin/python" -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/build.lock
    cp requirements/build.lock "$tools/.lock"
fi
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(scripts/source-date.sh)}
targets=(-t wheel)
[ "${2:-}" != sdist ] || targets+=(-t sdist)
mkdir -p "$folder"
if ! PATH="$tools/bin:$PATH" "$tools/bin/hatchling" build -d "$folder" "${targets[@]}" >"$folder/build.log" 2>&1; then
    cat "$folder/build.log" >&2
    exit 1
fi
rm "$folder/build.log"
