# SPDX-License-Identifier: Apache-2.0
"""Images for bench_build: Debian systems cut into layers, made once, before any clock runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

# About a GB with many small files, and what people build images from.
LARGE_PACKAGES = "build-essential,python3,python3-pip,git,golang-go"
_WHITEOUTS = 3


def make_base_tar(root: Path, cache: Path) -> Path:
    """Debian minbase, about 180 MB."""
    subprocess.run(
        [str(root / "scripts" / "make-base-tar.sh"), str(cache)], check=True, stdout=subprocess.DEVNULL
    )
    return cache / "debian-bookworm.tar"


def make_large_tar(cache: Path) -> Path:
    path = cache / "debian-large.tar"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--quiet", "--format=tar", f"--include={LARGE_PACKAGES}", "bookworm",
             str(partial)], check=True,
        )  # fmt: skip
        partial.rename(path)
    return path


def split_layers(tar: Path, folder: Path, count: int) -> list[Path]:
    """The entries of a tar as `count` layers of about the same size; the last one also takes a few files away."""
    layers = [folder / f"layer-{number}.tar" for number in range(count)]
    if layers[-1].exists():
        return layers
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar) as source:
        members = source.getmembers()
        share = sum(member.size + 512 for member in members) / count
        parts: list[list[tarfile.TarInfo]] = [[] for _ in layers]
        used = 0.0
        for member in members:
            parts[min(int(used / share), count - 1)].append(member)
            used += member.size + 512
        documents = [member.name for member in parts[0] if member.isreg() and "/doc/" in member.name]
        for layer, part in zip(layers, parts, strict=True):
            with tarfile.open(layer.with_suffix(".part"), "w", format=tarfile.PAX_FORMAT) as output:
                for member in part:
                    output.addfile(member, source.extractfile(member) if member.isreg() else None)
                if layer is layers[-1] and count > 1:
                    for name in documents[:_WHITEOUTS]:
                        parent, _, last = name.rpartition("/")
                        output.addfile(tarfile.TarInfo(f"{parent}/.wh.{last}"))
    for layer in layers:
        layer.with_suffix(".part").rename(layer)
    return layers


def change_last_layer(layer: Path, folder: Path) -> Path:
    """The layer after a day's work: a file changed, a folder with two files more, one file less than below."""
    path = folder / "changed-layer.tar"
    partial = path.with_suffix(".part")
    if not path.exists():
        with tarfile.open(layer) as source, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as output:
            members = source.getmembers()
            largest = max((member for member in members if member.isreg()), key=lambda member: member.size)
            for member in members:
                content = source.extractfile(member) if member.isreg() else None
                if member is largest and content is not None:
                    content = io.BytesIO(content.read()[:-1] + b"!")
                output.addfile(member, content)
            for name in ("opt/app/main.py", "opt/app/settings.json"):
                info = tarfile.TarInfo(name)
                info.size = 20_000
                output.addfile(info, io.BytesIO(random.Random(name).randbytes(info.size)))
            output.addfile(tarfile.TarInfo("usr/bin/.wh.perl"))
        partial.rename(path)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _config(layers: list[Path]) -> bytes:
    diff_ids = [f"sha256:{_digest(layer)}" for layer in layers]
    document = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids}}  # fmt: skip
    return json.dumps(document).encode()


def make_docker_archive(layers: list[Path], path: Path) -> Path:
    """What `docker save` writes: plain layers, a config, a listing."""
    if path.exists():
        return path
    config = _config(layers)
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    listing = json.dumps([{"Config": config_name, "RepoTags": ["bench:1.0.0"], "Layers": names}]).encode()
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w") as archive:
        for name, content in ((config_name, config), ("manifest.json", listing)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, layer in zip(names, layers, strict=True):
            archive.add(layer, name)
    partial.rename(path)
    return path


def make_gzip_layout(layers: list[Path], folder: Path) -> Path:
    """An OCI layout with gzip layers, as a registry gives them."""
    return _make_layout(layers, folder, "+gzip", lambda layer: gzip.compress(layer.read_bytes(), 6, mtime=0))


def make_plain_layout(layers: list[Path], folder: Path, before: Path | None = None) -> Path:
    """An OCI layout with plain layers, as builders push it into a folder; blobs that `before` has are its files."""
    return _make_layout(layers, folder, "", Path.read_bytes, before)


def _make_layout(
    layers: list[Path], folder: Path, suffix: str, pack: Callable[[Path], bytes], before: Path | None = None
) -> Path:
    if folder.exists():
        return folder
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    blobs = partial / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        known = before / "blobs" / "sha256" / digest if before else None
        if known is not None and known.exists():
            os.link(known, blobs / digest)
        else:
            (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    base = "application/vnd.oci.image"
    entries = [{"mediaType": f"{base}.layer.v1.tar{suffix}", **add(pack(layer))} for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": f"{base}.manifest.v1+json", "layers": entries,
                "config": {"mediaType": f"{base}.config.v1+json", **add(_config(layers))}}  # fmt: skip
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": f"{base}.manifest.v1+json", **add(json.dumps(manifest).encode()),
         "annotations": {"org.opencontainers.image.ref.name": "1.0.0"}}]}  # fmt: skip
    (partial / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (partial / "index.json").write_text(json.dumps(index))
    partial.rename(folder)
    return folder


def make_big_archive(cache: Path, gibibytes: int) -> Path:
    """A docker-archive with so much content in files of 1 GiB; a quarter of every cluster is noise."""
    path = cache / f"big-{gibibytes}.docker.tar"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    layer = cache / "big-layer.tar"
    noise = random.Random(8)
    with layer.open("wb") as output:
        for number in range(gibibytes):
            output.write(_file_header(f"data-{number}", 1 << 30))
            for _ in range(1 << 10):
                clusters = (noise.randbytes(16 << 10) + b"all work and no play " * 2341 for _ in range(16))
                output.write(b"".join(cluster[: 64 << 10].ljust(64 << 10, b"\n") for cluster in clusters))
        output.write(bytes(1024))
    make_docker_archive([layer], path)
    layer.unlink()
    return path


def make_many_files_archive(cache: Path, count: int) -> Path:
    """A docker-archive of so many small files, a thousand a folder."""
    path = cache / f"files-{count}.docker.tar"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    layer = cache / "files-layer.tar"
    with layer.open("wb") as output:
        for number in range(count):
            content = b"file %d\n" % number
            name = f"srv/folder-{number // 1000:04d}/file-{number:07d}.txt"
            output.write(_file_header(name, len(content)) + content.ljust(512, b"\0"))
        output.write(bytes(1024))
    make_docker_archive([layer], path)
    layer.unlink()
    return path


def _file_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)
