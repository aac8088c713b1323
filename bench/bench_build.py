# SPDX-License-Identifier: Apache-2.0
"""fledge against the tools that people use today; every input is made before the clock starts.

usual    `tar -x` of the layers with their whiteouts, `mke2fs -d`, `qemu-img convert -c`, `tar czf`
tuned    the same with zstd clusters, `-W -m 8`, and a plain tar
gzip     an OCI layout with gzip layers; the peer is `umoci unpack` and then as usual

build-{large,base}-vs-{usual,tuned}, build-{large,base}-gzip-vs-usual   their time over ours
ext4-large-vs-tar2ext4           one tar → raw ext4 (ours with journal and free space): their time over ours
build-large-vs-tar2sqfs          one tar → squashfs with zstd-3, the one writer near us: their time over ours
limit-build-large-vs-tar2sqfs    their time over that of compression and digests alone, which tar2sqfs does not make
build-rebuild-vs-full            large, a folder of plain layers, after a change in the last: over a full build
                                 (both with a cache to fill)
build-rebuild-archive-vs-full    the same from an archive that is new as a whole: every digest is made again
cpu-build-rebuild-vs-full, cpu-build-rebuild-archive-vs-full     both in seconds of processors
cost-build-large-vs-compression  ours over pure compression of the same clusters, same library and cores
cost-build-{large,base}-vs-floor     ours over compression and digests of the same bytes on the same cores
cpu-build-{large,base}-vs-floor      the same in seconds of processors: what a busy machine leaves of the figure above
limit-build-{large,base}-vs-floor    the floor after an interpreter has loaded the libraries, over the floor
limit-build-{large,base}-vs-tuned    their time over that of pure compression and the digests: what a converter without
                                 any cost of its own would reach on these cores
size-large-vs-tuned              our artifact over theirs, the agent in both
peak-mib-{large,8g,million-files}  summed PSS of fledge's processes, sampled

Ours is the real command in a process of its own, with nothing cached. Each run has a fresh folder, and none is removed
while a clock may still run: creating files soon after an `rm -rf` makes the peers several times slower.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.build_inputs import (
    change_last_layer,
    make_base_tar,
    make_big_archive,
    make_docker_archive,
    make_gzip_layout,
    make_large_tar,
    make_many_files_archive,
    make_plain_layout,
    split_layers,
)
from bench.results import ratio
from volant.contract.agents import find_agent

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("VOLANT_BENCH_CACHE", ROOT / ".cache" / "bench-build"))
TESTS_CACHE = ROOT / ".cache" / "tests"
ROUNDS = int(os.environ.get("VOLANT_BENCH_ROUNDS", "5"))
LAYERS = 8
HCSSHIM = "v0.13.0"
DISK_SIZE = "10G"
MANIFEST = '{"name": "bench", "version": "1.0.0"}\n'
# What fledge uses of others, and a model of pydantic's, which loads the rest of it.
LIBRARIES = """
import click, pydantic, zstandard
from isal import isal_zlib
pydantic.create_model("Any", name=(str, ""))
"""
Run = Callable[[Path], None]


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [str(argument) for argument in arguments], cwd=cwd, env={**inherited, **environment}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}")


def fledge_command(*source: object, cached: bool = False) -> list[object]:
    options = [] if cached else ["--no-cache"]
    return [
        sys.executable,
        "-m",
        "volant.fledge.cli",
        "build",
        *source,
        "-o",
        "plugin.tar.gz",
        "-q",
        *options,
    ]


def fledge(*source: object) -> Run:
    return lambda folder: run(*fledge_command(*source), cwd=folder)


def fledge_with_cache(home: Path, *source: object) -> Run:
    return lambda folder: run(*fledge_command(*source, cached=True), cwd=folder, VOLANT_HOME=str(home))


# -- peers ---------------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> Path:
    """`tar -x` of a docker-archive's layers in order, and what their whiteouts ask for."""
    root = folder / "root"
    root.mkdir()
    for number in range(LAYERS):
        script = 'tar -xOf "$1" "$2" | tar -x --numeric-owner --xattrs --xattrs-include="*" -C "$3"'
        run("bash", "-o", "pipefail", "-c", script, "bash", archive, f"{number:064x}/layer.tar", root)
        found = subprocess.run(
            ["find", root, "-name", ".wh.*"], capture_output=True, text=True, check=True
        ).stdout
        for whiteout in map(Path, found.splitlines()):
            whiteout.unlink()
            target = whiteout.with_name(whiteout.name.removeprefix(".wh."))
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
    return root


def convert(root: Path, folder: Path, *, tuned: bool) -> None:
    shutil.copy(find_agent("amd64"), root / "usr" / "local" / "bin" / "kestrel")
    run("mke2fs", "-q", "-t", "ext4", "-d", root, "rootfs.img", DISK_SIZE, cwd=folder)
    options = ["-W", "-m", "8", "-o", "compression_type=zstd"] if tuned else []
    run("qemu-img", "convert", "-c", "-O", "qcow2", *options, "rootfs.img", "rootfs.qcow2", cwd=folder)
    (folder / "manifest.json").write_text(MANIFEST)
    run("tar", "cf" if tuned else "czf", "plugin.tar.gz", "manifest.json", "rootfs.qcow2", cwd=folder)


def usual(archive: Path) -> Run:
    return lambda folder: convert(unpack(archive, folder), folder, tuned=False)


def tuned(archive: Path) -> Run:
    return lambda folder: convert(unpack(archive, folder), folder, tuned=True)


def usual_gzip(layout: Path) -> Run:
    def convert_layout(folder: Path) -> None:
        run("umoci", "unpack", "--image", f"{layout}:1.0.0", "bundle", cwd=folder)
        convert(folder / "bundle" / "rootfs", folder, tuned=False)

    return convert_layout


def make_tar2ext4() -> Path:
    """hcsshim cannot be `go install`ed (it has replace directives), but a module of our own may build its command."""
    folder = CACHE / f"tar2ext4-{HCSSHIM}"
    program = folder / "tar2ext4"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = "github.com/Microsoft/hcsshim/cmd/tar2ext4"
        (folder / "go.mod").write_text(
            f"module bench\n\ngo 1.24\n\nrequire github.com/Microsoft/hcsshim {HCSSHIM}\n"
        )
        (folder / "peer.go").write_text(f'package bench\n\nimport _ "{command}"\n')
        run("go", "build", "-o", program, command, cwd=folder, GOFLAGS="-mod=mod", CGO_ENABLED="0")
    return program


# -- measuring -----------------------------------------------------------------------------------------------------


class Stopwatch:
    """Times runs in fresh folders that stay until the end."""

    def __init__(self) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="runs-", dir=CACHE))
        self.artifact_bytes: dict[str, int] = {}
        self.cpu_seconds: dict[str, list[float]] = {}

    def fresh_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))

    def time(self, name: str, work: Run) -> float:
        folder = self.fresh_folder()
        os.sync()
        before = _read_cpu_seconds()
        began = time.perf_counter()
        work(folder)
        seconds = time.perf_counter() - began
        self.cpu_seconds.setdefault(name, []).append(_read_cpu_seconds() - before)
        for large in ("plugin.tar.gz", "rootfs.img", "rootfs.qcow2", "out.img"):
            file = folder / large
            if file.exists():
                self.artifact_bytes[f"{name} {large}"] = file.stat().st_size
                file.unlink()
        return seconds

    def compare(self, **runs: Run) -> dict[str, float]:
        """Medians of interleaved runs; the first round warms the page cache and does not count."""
        times: dict[str, list[float]] = {name: [] for name in runs}
        self.cpu_seconds.clear()
        for number in range(ROUNDS + 1):
            for name, work in runs.items():
                seconds = self.time(name, work)
                if number:
                    times[name].append(seconds)
        for name, measured in times.items():
            told = " ".join(f"{seconds:.2f}" for seconds in measured)
            cpu = statistics.median(self.cpu_seconds[name][1:])
            print(
                f"  {name}: median {statistics.median(measured):.2f} s of {told}; CPU {cpu:.2f} s", flush=True
            )
        return {name: statistics.median(measured) for name, measured in times.items()}

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _read_cpu_seconds() -> float:
    """Of every process that was started here and has ended: on a busy machine it says more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_peak_mib(folder: Path, *source: object) -> float:
    """Largest sum of PSS over fledge and its children while it builds."""
    process = subprocess.Popen([str(word) for word in fledge_command(*source)], cwd=folder)
    peak = 0
    stopped = threading.Event()
    while process.poll() is None:
        peak = max(peak, sum(map(_read_pss, _find_family(process.pid))))
        stopped.wait(0.02)
    if process.returncode:
        raise SystemExit(f"fledge ended with {process.returncode}")
    (folder / "plugin.tar.gz").unlink()
    return peak / 1024


def _find_family(pid: int) -> list[int]:
    family = [pid]
    for parent in family:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
    return family


def _read_pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def main() -> None:
    watch = Stopwatch()
    limits: dict[str, float] = {}
    try:
        for name, tar in (("base", make_base_tar(ROOT, TESTS_CACHE)), ("large", make_large_tar(CACHE))):
            layers = split_layers(tar, CACHE / f"{name}-{LAYERS}", LAYERS)
            archive = make_docker_archive(layers, CACHE / f"{name}.docker.tar")
            tuned_seconds = compare_builds(watch, name, archive)
            limits[name] = compare_compression(watch, name, archive, layers, tuned_seconds)
            compare_gzip(watch, name, make_gzip_layout(layers, CACHE / f"{name}.oci"))
        compare_tar(watch, make_large_tar(CACHE))
        compare_squashfs(watch, make_large_tar(CACHE), limits["large"])
        compare_rebuild(watch, CACHE / f"large-{LAYERS}")
        for name, archive in (
            ("large", CACHE / "large.docker.tar"),
            ("8g", make_big_archive(CACHE, 8)),
            ("million-files", make_many_files_archive(CACHE, 1_000_000)),
        ):
            ratio(f"peak-mib-{name}", measure_peak_mib(watch.fresh_folder(), "--docker-archive", archive))
    finally:
        watch.remove()


def compare_builds(watch: Stopwatch, name: str, archive: Path) -> float:
    """Returns what the tuned tools took, seconds."""
    print(f"{name}: docker-archive, {LAYERS} plain layers, {archive.stat().st_size >> 20} MiB", flush=True)
    seconds = watch.compare(
        fledge=fledge("--docker-archive", archive), usual=usual(archive), tuned=tuned(archive)
    )
    ratio(f"build-{name}-vs-usual", seconds["usual"] / seconds["fledge"])
    ratio(f"build-{name}-vs-tuned", seconds["tuned"] / seconds["fledge"])
    if name == "large":
        sizes = watch.artifact_bytes
        ratio("size-large-vs-tuned", sizes["fledge plugin.tar.gz"] / sizes["tuned plugin.tar.gz"])
    return seconds["tuned"]


def compare_gzip(watch: Stopwatch, name: str, layout: Path) -> None:
    print(f"{name}: OCI layout, {LAYERS} gzip layers", flush=True)
    seconds = watch.compare(fledge=fledge("--oci-layout", layout), usual=usual_gzip(layout))
    ratio(f"build-{name}-gzip-vs-usual", seconds["usual"] / seconds["fledge"])


def compare_tar(watch: Stopwatch, tar: Path) -> None:
    peer = make_tar2ext4()
    print(f"large: one tar of {tar.stat().st_size >> 20} MiB to raw ext4", flush=True)
    seconds = watch.compare(
        fledge=lambda folder: run(
            sys.executable, "-m", "bench.tar_to_ext4", tar, folder / "out.img", cwd=ROOT
        ),
        tar2ext4=lambda folder: run(peer, "-i", tar, "-o", "out.img", cwd=folder),
    )
    ratio("ext4-large-vs-tar2ext4", seconds["tar2ext4"] / seconds["fledge"])


def compare_squashfs(watch: Stopwatch, tar: Path, limit: float) -> None:
    archive = make_docker_archive([tar], CACHE / "large-1.docker.tar")
    print(f"large: one layer of {tar.stat().st_size >> 20} MiB to squashfs and to a plugin", flush=True)
    script = 'exec tar2sqfs -q -c zstd -X level=3 -j "$(nproc)" out.img < "$1"'
    seconds = watch.compare(
        fledge=fledge("--docker-archive", archive),
        tar2sqfs=lambda folder: run("bash", "-c", script, "bash", tar, cwd=folder),
    )
    ratio("build-large-vs-tar2sqfs", seconds["tar2sqfs"] / seconds["fledge"])
    ratio("limit-build-large-vs-tar2sqfs", seconds["tar2sqfs"] / limit)


def compare_rebuild(watch: Stopwatch, layers: Path) -> None:
    """Each round fills a cache of its own with a full build and builds again after the change."""
    before = sorted(layers.glob("*.tar"))
    after = [*before[:-1], change_last_layer(before[-1], CACHE)]
    layout = make_plain_layout(before, CACHE / "large-plain.oci")
    changed_layout = make_plain_layout(after, CACHE / "large-changed.oci", layout)
    archive = make_docker_archive(before, CACHE / "large.docker.tar")
    changed_archive = make_docker_archive(after, CACHE / "large-changed.docker.tar")
    for name, option, first, second in (
        ("build-rebuild-vs-full", "--oci-layout", layout, changed_layout),
        ("build-rebuild-archive-vs-full", "--docker-archive", archive, changed_archive),
    ):
        print(f"large: {option}, built again after a change in its last layer", flush=True)
        check_rebuild(watch, option, first, second)
        homes: list[Path] = []

        def full(folder: Path, option: str = option, source: Path = first, homes: list[Path] = homes) -> None:
            homes.append(folder / "home")
            fledge_with_cache(homes[-1], option, source)(folder)

        def again(
            folder: Path, option: str = option, source: Path = second, homes: list[Path] = homes
        ) -> None:
            fledge_with_cache(homes[-1], option, source)(folder)
            shutil.rmtree(homes[-1])

        seconds = watch.compare(full=full, rebuild=again)
        ratio(name, seconds["rebuild"] / seconds["full"])
        cpu = {run: statistics.median(used[1:]) for run, used in watch.cpu_seconds.items()}
        ratio(f"cpu-{name}", cpu["rebuild"] / cpu["full"])


def check_rebuild(watch: Stopwatch, option: str, before: Path, after: Path) -> None:
    """The bytes of a rebuild are those of a full build, or its time means nothing."""
    folders = [watch.fresh_folder() for _ in range(3)]
    home = folders[0] / "home"
    fledge_with_cache(home, option, before)(folders[0])
    fledge_with_cache(home, option, after)(folders[1])
    fledge(option, after)(folders[2])
    run("cmp", folders[1] / "plugin.tar.gz", folders[2] / "plugin.tar.gz")
    for folder in folders:
        (folder / "plugin.tar.gz").unlink()


def compare_compression(
    watch: Stopwatch, name: str, archive: Path, layers: list[Path], tuned_seconds: float
) -> float:
    """Returns the seconds that compression and digests alone take."""
    folder = watch.fresh_folder()
    run(*fledge_command("--docker-archive", archive), cwd=folder)
    run("tar", "-xzf", "plugin.tar.gz", "rootfs.qcow2", cwd=folder)
    disk = folder / "disk.img"
    run("qemu-img", "convert", "-O", "raw", "rootfs.qcow2", disk, cwd=folder)
    ours, compression, with_digests, loading, cpu = [], [], [], [], []
    for number in range(ROUNDS + 1):
        seconds = watch.time("fledge", fledge("--docker-archive", archive))
        loaded = watch.time("load", lambda _: run(sys.executable, "-c", LIBRARIES))
        told = subprocess.run(
            [sys.executable, "-m", "bench.compress_only", disk, folder / "rootfs.qcow2", *layers],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        if number:
            ours.append(seconds)
            compression.append(float(told[0]))
            with_digests.append(float(told[2]))
            loading.append(loaded)
            cpu.append(watch.cpu_seconds["fledge"][-1] / float(told[3]))
    disk.unlink()
    limit = statistics.median(with_digests)
    print(f"  fledge: {statistics.median(ours):.2f} s, compression alone: {statistics.median(compression):.2f} s, "
          f"with digests: {limit:.2f} s")  # fmt: skip
    ratio(f"cost-build-{name}-vs-floor", statistics.median(ours) / limit)
    ratio(f"cpu-build-{name}-vs-floor", statistics.median(cpu))
    ratio(f"limit-build-{name}-vs-floor", 1 + statistics.median(loading) / limit)
    if name == "large":
        ratio("cost-build-large-vs-compression", statistics.median(ours) / statistics.median(compression))
    ratio(f"limit-build-{name}-vs-tuned", tuned_seconds / limit)
    return limit
