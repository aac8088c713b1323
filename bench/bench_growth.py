# SPDX-License-Identifier: Apache-2.0
"""How the cost of a build grows with files, bytes and layers: a table of docs/reference/figures.md.

Each row is the real command on a docker-archive of plain layers, nothing cached: processor seconds of all threads (the
median of three runs, fewer where one takes long), the largest sum of PSS, the plugin. There is no peer, and no RATIO.
BENCH_GROWTH_IMAGES names some of the images where all take too long.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from bench.bench_build import CACHE, ROOT, TESTS_CACHE, Stopwatch, fledge_command, measure_peak_mib
from bench.build_inputs import (
    make_base_tar,
    make_big_archive,
    make_docker_archive,
    make_large_tar,
    make_many_files_archive,
    split_layers,
)
from bench.results import note

RUNS = 3
ENOUGH_SECONDS = 15


def measure_processor_seconds(folder: Path, archive: Path) -> float:
    """User and system time of one build, with the interpreter's start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(word) for word in fledge_command("--docker-archive", archive)]
    subprocess.run(command, cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, archive: Path) -> float:
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < ENOUGH_SECONDS:
        seconds.append(measure_processor_seconds(folder, archive))
    return statistics.median(seconds)


def count_content(archive: Path) -> tuple[int, int, int]:
    """(files, bytes in them, layers) as the archive's layers list them."""
    files = size = layers = 0
    with tarfile.open(archive) as outer:
        for member in outer:
            if member.name.endswith("layer.tar"):
                layers += 1
                with tarfile.open(fileobj=outer.extractfile(member), mode="r|") as layer:
                    for entry in layer:
                        files += entry.isreg()
                        size += entry.size
                        layer.members = []  # type: ignore[attr-defined]  # it keeps a million otherwise
    return files, size, layers


def make_inputs() -> dict[str, Callable[[], Path]]:
    """Each image's archive by its name, made when it is its turn: all of them together are some gigabytes."""

    def cut(tar: Path, name: str, count: int) -> Path:
        return make_docker_archive(split_layers(tar, CACHE / name, count), CACHE / f"{name}.docker.tar")

    return {
        "base-1": lambda: cut(make_base_tar(ROOT, TESTS_CACHE), "base-1", 1),
        "base-8": lambda: cut(make_base_tar(ROOT, TESTS_CACHE), "base-8", 8),
        "base-64": lambda: cut(make_base_tar(ROOT, TESTS_CACHE), "base-64", 64),
        "large-8": lambda: cut(make_large_tar(CACHE), "large-8", 8),
        "2g": lambda: make_big_archive(CACHE, 2),
        "files-100000": lambda: make_many_files_archive(CACHE, 100_000),
        "files-1000000": lambda: make_many_files_archive(CACHE, 1_000_000),
    }


def measure_image(watch: Stopwatch, name: str, archive: Path) -> None:
    folder = watch.fresh_folder()
    seconds = measure(folder, archive)
    plugin_mb = (folder / "plugin.tar.gz").stat().st_size / 1e6
    peak = measure_peak_mib(folder, "--docker-archive", archive)
    files, size, layers = count_content(archive)
    row = {
        "files": files, "content_mib": size >> 20, "layers": layers, "seconds": round(seconds, 1),
        "peak_mib": round(peak), "plugin_mb": round(plugin_mb),
    }  # fmt: skip
    print(" | ".join(map(str, (name, *row.values()))), flush=True)
    for column, value in row.items():
        note(f"{name}.{column}", value)


def main() -> None:
    inputs = make_inputs()
    wanted = os.environ.get("BENCH_GROWTH_IMAGES", " ".join(inputs)).split()
    print("image | files | content MiB | layers | processor seconds | peak MiB | plugin MB", flush=True)
    watch = Stopwatch()
    try:
        for name in wanted:
            archive = inputs[name]()
            measure_image(watch, name, archive)
            if archive.name.startswith(("big-", "files-")):
                archive.unlink()  # the largest of all, and quickly made again
    finally:
        watch.remove()
