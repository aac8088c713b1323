# SPDX-License-Identifier: Apache-2.0
"""pull-vs-copy: a plugin from a registry on this machine, over copying its file and taking the copy's digest.

pull-bare-vs-copy is its limit: the same parts by plain HTTP, two at a time, their digests taken and nothing else. The
rest is skopeo, and most of that SHA-256 by the Go that it was built with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.own_folder import make_own_folder
from bench.results import note, ratio

TESTS = Path(__file__).resolve().parents[2] / "tests"
SIZE_BYTES = int(os.environ.get("BENCH_PULL_MIB", "512")) << 20
ROUNDS = 5


def main() -> None:
    sys.path.insert(0, str(TESTS))
    from support.image_registry import start_registry
    from volant.plugin_registry import pull_plugin, push_plugin

    with make_own_folder() as folder, contextlib.ExitStack() as stack:
        os.environ["VOLANT_HOME"] = str(folder / "home")
        archive = folder / "plugin.tar.gz"
        write_archive(archive)
        (folder / "registry").mkdir()
        reference = f"{stack.enter_context(start_registry(folder / 'registry'))}/bench/plugin:1"
        with archive.open("rb") as stream:
            push_plugin(stream, reference, name="plugin", version="1.0.0")

        def pull() -> None:
            with pull_plugin(reference) as pulled:
                assert pulled.size_bytes == SIZE_BYTES

        server, _, tag = reference.partition("/bench/plugin:")
        with urllib.request.urlopen(
            ask_for_manifest(f"http://{server}/v2/bench/plugin/manifests/{tag}")
        ) as reply:
            digests = [layer["digest"] for layer in json.load(reply)["layers"]]

        def pull_barely() -> None:
            def fetch(digest: str) -> None:
                own, path, blob = (
                    hashlib.sha256(),
                    folder / digest,
                    f"http://{server}/v2/bench/plugin/blobs/{digest}",
                )
                with urllib.request.urlopen(blob) as reply, path.open("wb") as target:
                    while part := reply.read(1 << 20):
                        own.update(part)
                        target.write(part)
                path.unlink()
                assert digest == f"sha256:{own.hexdigest()}"

            with ThreadPoolExecutor(2) as pool:
                list(pool.map(fetch, digests))

        def copy() -> None:
            target = folder / "copy"
            shutil.copyfile(archive, target)
            with target.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
            target.unlink()

        # In turn, so that what else the machine does meets both.
        times = [(measure(pull), measure(pull_barely), measure(copy)) for _ in range(ROUNDS + 1)][1:]
    for name, column in zip(("pull-s", "pull-bare-s", "copy-s"), zip(*times, strict=True), strict=True):
        note(name, round(statistics.median(column), 2))
    ratio("pull-vs-copy", statistics.median(pulled / copied for pulled, _, copied in times))
    ratio("pull-bare-vs-copy", statistics.median(barely / copied for _, barely, copied in times))


def ask_for_manifest(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})


def write_archive(path: Path) -> None:
    """Bytes as a compressed disk has them."""
    source = random.Random(1)  # the same every time
    with path.open("wb") as stream:
        for _ in range(SIZE_BYTES >> 20):
            stream.write(source.randbytes(1 << 20))


def measure(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
