# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of fledge's readers, by hand: `pip install atheris`, then

    PYTHONPATH=src:tests:tests/fuzz python tests/fuzz/fuzz_fledge.py layers -max_total_time=300 -rss_limit_mb=1024

The first argument is a target (layers, archive), the rest is libFuzzer's. New inputs are kept in .fuzz/<target>.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["volant.fledge"]):
    import targets


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = targets.make_layer_seeds() if name == "layers" else targets.make_archive_seeds(Path(folder))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], "-max_len=40000", "-timeout=10", *options, str(corpus)], targets.TARGETS[name]
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
