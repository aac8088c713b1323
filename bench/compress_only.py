# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.compress_only DISK.img [FILE…]`: seconds, and seconds of processors, to compress the disk's used
clusters and nothing else.

The limit that a converter cannot beat: same library, level, cluster size and cores, input in the page cache. With files
named, a second pair: compression and their SHA-256, which verify what is read and name what is written.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import zstandard

CLUSTER = 65536
BATCH = 16


def find_data(descriptor: int, size: int) -> Iterator[int]:
    """Offsets of clusters that are no hole."""
    position, after = 0, 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        for offset in range(max(after, start - start % CLUSTER), position, CLUSTER):
            after = offset + CLUSTER
            yield offset


def digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(path: str, *files: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    offsets = list(find_data(descriptor, os.fstat(descriptor).st_size))
    local = threading.local()

    def compress(batch: list[int]) -> int:
        if not hasattr(local, "compressor"):
            local.compressor = zstandard.ZstdCompressor(level=3)
            local.buffer = memoryview(bytearray(CLUSTER))
        total = 0
        for offset in batch:
            os.preadv(descriptor, [local.buffer], offset)
            total += len(local.compressor.compress(local.buffer))
        return total

    batches = [offsets[first : first + BATCH] for first in range(0, len(offsets), BATCH)]
    for hashed in ((), files) if files else ((),):
        began, used = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            digests = [pool.submit(digest, file) for file in hashed]
            sum(pool.map(compress, batches))
            for future in digests:
                future.result()
        print(time.perf_counter() - began, time.process_time() - used)


if __name__ == "__main__":
    main(*sys.argv[1:])
