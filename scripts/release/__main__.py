# SPDX-License-Identifier: Apache-2.0
"""Debian packages and SBOM beside the wheel that FOLDER holds: `python scripts/release FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import debian
import sbom
from python_tree import install_tree

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    (wheel,) = folder.glob("volant-*.whl")
    with tempfile.TemporaryDirectory(prefix="volant-dist-") as name:
        lock, cache = ROOT / "requirements" / "runtime.lock", ROOT / ".cache" / "dist-libraries"
        tree = install_tree(wheel, lock, Path(name), cache)
        debian.make_packages(tree, ROOT, Path(name), folder)
        sbom.write(tree, folder / f"volant-{tree.version}.cdx.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
