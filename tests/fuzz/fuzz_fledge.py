# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the readers of layers, image archives, plugins and recipes, by hand: `pip install
atheris`, then

    PYTHONPATH=src:tests:tests/fuzz python tests/fuzz/fuzz_fledge.py layers -max_total_time=300 -rss_limit_mb=1024

The first argument is a target (layers, archive, plugin, recipe), the rest is libFuzzer's. New inputs are kept in
.fuzz/<target>.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["volant.fledge", "volant.contract"]):
    import targets


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = targets.TARGETS[name].make_seeds(Path(folder))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    longest = max(40_000, *map(len, seeds))
    atheris.Setup(
        [sys.argv[0], f"-max_len={longest}", "-timeout=10", *options, str(corpus)], targets.TARGETS[name].run
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
