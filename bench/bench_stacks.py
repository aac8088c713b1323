# SPDX-License-Identifier: Apache-2.0
"""Stacks: networks, deployments, compose files, host folders and registries, each beside what people had before.

Every module of `bench/stacks` measures one thing; STACKS names those to run (all of them otherwise).
"""

from __future__ import annotations

import importlib
import os
import pkgutil

from bench import stacks


def main() -> None:
    wanted = os.environ.get("STACKS", "").split()
    for module in pkgutil.iter_modules(stacks.__path__):
        if not wanted or module.name in wanted:
            print(f"## {module.name}", flush=True)
            importlib.import_module(f"bench.stacks.{module.name}").main()
