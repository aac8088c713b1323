# SPDX-License-Identifier: Apache-2.0
"""Ignore files, and what of a context they keep out by Docker's rule, for our reader and every builder."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

FILES = sorted(
    (
        "#x",
        "!y",
        "a.log",
        "abs.txt",
        "deep.tmp",
        "docs/f",
        "keep.log",
        "sub/a.log",
        "sub/deep.tmp",
        "sub/docs/f",
        "x.md",
    )
)
CASES = {
    "the top folder only": ("*.log\n", "a.log keep.log"),
    "one comes back": ("# c\n\n*.log\n!keep.log\n", "a.log"),
    "a folder and all below": ("docs/\n/abs.txt\n./x.md\n", "abs.txt docs/f x.md"),
    "all but a folder": ("*\n!sub\nsub/docs\n", "!y #x a.log abs.txt deep.tmp docs/f keep.log sub/docs/f x.md"),
    "all but something deep": ("*\n!sub\nsub/docs\n!sub/docs/f\n", "!y #x a.log abs.txt deep.tmp docs/f keep.log x.md"),
    "any depth": ("**/*.log\n**/deep.tmp\n!sub/a.log\n", "a.log deep.tmp keep.log sub/deep.tmp"),
    "one folder down": ("*/*.tmp\n", "sub/deep.tmp"),
    "single characters": ("?.md\n[ab].log\n", "a.log x.md"),
    "the last match wins": ("!x.md\n*.md\n", "x.md"),
    "escapes": ("\\#x\n\\!y\n", "!y #x"),
    "spaces around": ("  *.log  \r\n\tx.md\n", "a.log keep.log x.md"),
    "the context itself": (".\n", ""),
}  # fmt: skip


def write_context(folder: Path, text: str, copy: str = "COPY . /o/") -> Path:
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "Dockerfile").write_text(f"FROM scratch\n{copy}\n")
    (folder / ".dockerignore").write_text(text)
    return folder


def list_copied(archive: Path) -> list[str]:
    """The files below /o/ of an image that was saved, without the two that every context has."""
    found: list[str] = []
    with tarfile.open(archive) as outer:
        stream = outer.extractfile("manifest.json")
        assert stream is not None
        for layer in json.load(stream)[0]["Layers"]:
            content = outer.extractfile(layer)
            assert content is not None
            with tarfile.open(fileobj=io.BytesIO(content.read())) as inner:
                found += [member.name.removeprefix("o/") for member in inner if member.isfile()]
    return sorted(set(found) - {"Dockerfile", ".dockerignore"})
