# SPDX-License-Identifier: Apache-2.0
"""How the cost of a build grows with files, bytes and layers: the table of docs/explanation/conversion.md.

Each row is the real command on a docker-archive of plain layers, nothing cached: processor seconds of all threads (the
median of three runs, fewer where one takes long), the largest sum of PSS, the plugin. There is no peer, and no RATIO.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import tarfile
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


def main() -> None:
    base, large = make_base_tar(ROOT, TESTS_CACHE), make_large_tar(CACHE)
    inputs = {
        f"base-{count}": make_docker_archive(
            split_layers(base, CACHE / f"base-{count}", count), CACHE / f"base-{count}.docker.tar"
        )
        for count in (1, 8, 64)
    }
    inputs["large-8"] = make_docker_archive(
        split_layers(large, CACHE / "large-8", 8), CACHE / "large.docker.tar"
    )
    inputs["8g"] = make_big_archive(CACHE, 8)
    for count in (100_000, 1_000_000):
        inputs[f"files-{count}"] = make_many_files_archive(CACHE, count)
    print("image | files | content MiB | layers | processor seconds | peak MiB | plugin MB", flush=True)
    watch = Stopwatch()
    try:
        for name, archive in inputs.items():
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
    finally:
        watch.remove()
