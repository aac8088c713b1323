#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Resolves the dependencies into requirements/*.lock: versions and hashes for every platform, no addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
options=(--universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --python-version 3.11 --quiet)
"$uv" pip compile "${options[@]}" --extra all pyproject.toml -o requirements/runtime.lock
"$uv" pip compile "${options[@]}" --group build -o requirements/build.lock
"$uv" pip compile "${options[@]}" --group dist -o requirements/dist.lock
"$uv" pip compile "${options[@]}" --extra all --extra mcp --extra kubernetes --group dev pyproject.toml -o requirements/dev.lock
