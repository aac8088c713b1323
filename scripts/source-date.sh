#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The time that stands in everything built from this checkout: of its last commit, or a fixed one outside of git.
cd "$(dirname "$0")/.."
git log -1 --format=%ct 2>/dev/null || echo 1735689600
