# SPDX-License-Identifier: Apache-2.0
"""Planned images made of given bytes, for tests of what writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from volant.filesystems.blocks import Origin, Piece


@dataclass
class FixedImage:
    """A PlannedImage with the pieces it is given."""

    size_bytes: int
    given: list[Piece]
    origins: Sequence[Origin] = field(default=())

    @property
    def used_bytes(self) -> int:
        return sum(piece.length for piece in self.given)

    def pieces(self) -> Iterator[Piece]:
        return iter(self.given)

    def content(self) -> bytes:
        """The whole image; sources are files of zeros here."""
        whole = bytearray(self.size_bytes)
        for piece in self.given:
            data = piece.data() if callable(piece.data) else piece.data
            assert data is not None
            whole[piece.offset : piece.offset + piece.length] = data
        return bytes(whole)
