# SPDX-License-Identifier: Apache-2.0
"""What stands between the file system writer and the disk formats: a planned image, told in pieces.

Step 5 of the line plans every block before anything is written; step 6 asks for the pieces in ascending order and
writes them as QCOW2 clusters or as a sparse raw file. What no piece covers is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

Data = bytes | bytearray | memoryview


class Piece(NamedTuple):
    """`length` bytes at `offset` of the image: `data`, or (data None) the bytes at `source_offset` of `descriptor`.

    Data that take long to make are a function that makes them, on any thread; such a piece lies between two multiples
    of 64 KiB.
    Bytes of the last block past the end of a file are no part of any piece, so they are zero.
    """

    offset: int
    length: int
    data: Data | Callable[[], Data] | None
    descriptor: int = -1
    source_offset: int = 0


class Origin(NamedTuple):
    """`length` bytes at `offset` of `descriptor` are those that `digest` names."""

    descriptor: int
    offset: int
    length: int
    digest: str


class PlannedImage(Protocol):
    """An image that is known to the last block and not yet written anywhere."""

    @property
    def size_bytes(self) -> int:
        """The virtual size."""

    @property
    def used_bytes(self) -> int:
        """Bytes of blocks in use: content and metadata."""

    @property
    def origins(self) -> Sequence[Origin]:
        """What is known of the content of the descriptors that pieces name; it need not be checked yet."""

    def pieces(self) -> Iterator[Piece]:
        """All that is not zero, ascending, without overlap."""
