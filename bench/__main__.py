# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [NAME…]`: run all benches, or the named ones; what they measure is kept in bench/results."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench
from bench import results


def main(names: list[str]) -> int:
    known = [module.name.removeprefix("bench_") for module in pkgutil.iter_modules(bench.__path__)
             if module.name.startswith("bench_")]  # fmt: skip
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        print(f"# {name}", flush=True)
        try:
            importlib.import_module(f"bench.bench_{name}").main()
        finally:
            results.save(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
