# SPDX-License-Identifier: Apache-2.0
"""The plugin store: content-addressed payloads on disk, their rows in the database.

    <state>/plugins/incoming/<random>     a payload being received; swept at start
    <state>/plugins/sha256/<hex>          a disk or initramfs, read-only, named by its content

A payload is received, checked, flushed and given its final name before its row is written, and a row goes before its
payload does. While either is going on, the payload has a second link in `incoming`: so after a kill at any instant
`sweep` knows what was cut off from what the database has forgotten, and removes the first only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal

from pydantic import TypeAdapter

from volant.contract.manifest import Manifest
from volant.contract.payload_files import find_image_config
from volant.contract.plugin_archive import (
    PluginContent,
    read_payload_elsewhere,
    read_plugin_archive,
)
from volant.digits import is_whole_number
from volant.errors import Conflict, InvalidInput, NotFound, StorageFull
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.plugins.evidence import Evidence
from volant.volantd.plugins.sources import Download
from volant.volantd.plugins.trust import Trial, TrustPolicy
from volant.volantd.usage import Usage, describe_users
from volant.whole_file import flush

logger = logging.getLogger(__name__)

KEPT_MANIFESTS = 32
_KIND = TypeAdapter(tuple[Literal["rootfs", "initramfs"], Literal["kernel", "firmware"]])
NO_EVIDENCE = Evidence()


@dataclass(frozen=True, slots=True)
class StoredPlugin:
    """An installed plugin with the path of its payload. `architecture` is "" where its disk does not tell."""

    manifest: Manifest
    kind: Literal["rootfs", "initramfs"]
    boot: Literal["kernel", "firmware"]
    format: Literal["qcow2", "raw"]
    payload: Path
    enabled: bool
    files: Mapping[str, str]
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """An installed plugin as people see it; `vms` is how many use it."""

    name: str
    version: str
    description: str
    enabled: bool
    kind: Literal["rootfs", "initramfs"]
    boot: Literal["kernel", "firmware"]
    size_bytes: int
    virtual_size_bytes: int
    checksum: str
    installed_at: str
    vms: int
    manifest: Manifest


class PluginStore:
    def __init__(self, database: Database, folder: Path, usage: Usage) -> None:
        self._database = database
        self._usage = usage
        self.policy = TrustPolicy(database)
        self._payloads = folder / "sha256"
        self._incoming = folder / "incoming"
        for path in (self._payloads, self._incoming):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = asyncio.Lock()
        self._damage_told: set[str] = set()
        self.on_removed: Callable[[], object] = lambda: None
        """Called in a thread when a plugin is gone: what was made of it can go, too."""

    def sweep(self, set_aside: Callable[[Path], object]) -> list[Path]:
        """Remove what an interrupted install or removal left behind, and set aside what no row names.

        Returns what was set aside, by its old path.
        """
        named = {row["checksum"] for row in self._database.fetch_all("SELECT checksum FROM plugins")}
        unknown = []
        for path in [path for path in self._payloads.iterdir() if f"sha256:{path.name}" not in named]:
            if path.is_file() and path.stat().st_nlink > 1:
                path.unlink()
            else:
                unknown.append(path)
                set_aside(path)
        for path in self._incoming.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return unknown

    def export_row(self, reference: str) -> dict[str, str | int]:
        """The row of a plugin, to be kept outside of the database."""
        return dict(self._resolve(reference))

    def restore_row(self, row: Mapping[str, str | int], lost: Path) -> None:
        """Take back a plugin whose row is gone; its payload may be in `lost`. NotFound where it is nowhere."""
        if self._find_row(str(row["name"]), str(row["version"])) is not None:
            return
        payload = self.find_payload(str(row["checksum"]))
        set_aside = lost / f"plugin-{payload.name}"
        if not payload.exists():
            if not set_aside.exists():
                raise NotFound(
                    f"cannot take back plugin {row['name']} {row['version']}: its disk is gone",
                    resolution="install that version again, then import again",
                )
            os.rename(set_aside, payload)
        columns = [column["name"] for column in self._database.fetch_all("PRAGMA table_info(plugins)")]
        names = [column for column in columns if column in row]
        self._database.execute(
            f"INSERT INTO plugins ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608  # the table's own names
            tuple(row[name] for name in names),
        )

    async def install(
        self, stream: BinaryIO, *, source: str, evidence: Evidence = NO_EVIDENCE
    ) -> tuple[InstalledPlugin, bool]:
        """Install an archive that is read from `stream`; returns the plugin and whether it is new.

        `source` names the archive in errors. The same plugin once more is no error; the same name and version with
        other bytes is a Conflict, and what the policy does not trust NotPermitted. Cancelling leaves nothing behind.
        """
        trial = self.policy.judge(evidence, source)
        cancelled = threading.Event()
        with self._receive() as (path, descriptor):
            reading = asyncio.ensure_future(asyncio.to_thread(_read, stream, descriptor, trial, cancelled))
            try:
                content, architecture = await asyncio.shield(reading)
            except asyncio.CancelledError:
                # The thread must have let go of the descriptor before it is closed under it.
                cancelled.set()
                with contextlib.suppress(BaseException):
                    await reading
                raise
            async with self._lock:
                return self._keep(content, architecture, path)

    @contextmanager
    def _receive(self) -> Iterator[tuple[Path, int]]:
        path = self._incoming / secrets.token_hex(8)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def _keep(self, content: PluginContent, architecture: str, path: Path) -> tuple[InstalledPlugin, bool]:
        """The short synchronous end of an install: nothing else runs between the check and the row."""
        manifest = content.manifest
        present = self._find_row(manifest.name, manifest.version)
        if present is not None:
            stored = _stored_manifest(content)
            if present["checksum"] == content.checksum and (
                stored == present["manifest"] or _is_damaged(present)
            ):
                self._keep_payload(content.checksum, path)  # it may be gone, as in a backup without plugins
                self._database.execute(
                    "UPDATE plugins SET manifest = ? WHERE name = ? AND version = ?",
                    (stored, manifest.name, manifest.version),
                )
                return self.get(f"{manifest.name}:{manifest.version}"), False
            raise Conflict(
                f"cannot install {manifest.name} {manifest.version}: this version is installed with other content",
                details=[f"installed: {present['checksum']}", f"given:     {content.checksum}"],
                resolution="raise the version in fledge.toml, or remove the installed one first: "
                f"volar plugins remove {manifest.name}:{manifest.version}",
            )
        self._keep_payload(content.checksum, path)
        payload = manifest.rootfs
        self._database.execute(
            "INSERT INTO plugins VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                manifest.name, manifest.version, content.kind, (payload.boot if payload else None) or "kernel",
                payload.format if payload else "raw", content.checksum, content.payload_size_bytes,
                content.virtual_size_bytes, architecture, int(manifest.enabled), now(), _stored_manifest(content),
            ),
        )  # fmt: skip
        row = self._find_row(manifest.name, manifest.version)
        assert row is not None
        return self._describe(row), True

    def _keep_payload(self, checksum: str, path: Path) -> None:
        self._payloads.mkdir(exist_ok=True)
        target = self.find_payload(checksum)
        if not target.exists():
            path.chmod(0o400)
            os.link(path, target)
            flush(self._payloads)

    def find_payload(self, checksum: str) -> Path:
        return self._payloads / checksum.removeprefix("sha256:")

    def list_all(self) -> list[InstalledPlugin]:
        """All that can be read; of the others the log tells once, and their VMs keep their disks."""
        found = []
        for row in self._database.fetch_all("SELECT * FROM plugins ORDER BY name, version"):
            try:
                found.append(self._describe(row))
            except Conflict as problem:
                if str(problem) not in self._damage_told:
                    self._damage_told.add(str(problem))
                    logger.error("%s", problem)
        return found

    def count(self) -> int:
        (row,) = self._database.fetch_all("SELECT count(*) AS count FROM plugins")
        return int(row["count"])

    def get(self, reference: str) -> InstalledPlugin:
        """A plugin by `name` (its newest version, enabled ones first) or `name:version`; NotFound otherwise."""
        return self._describe(self._resolve(reference))

    def load(self, reference: str) -> StoredPlugin:
        """As `get`, with everything that a VM needs to start from it."""
        row = self._resolve(reference)
        manifest, files = _read_row(row)
        return StoredPlugin(
            manifest=manifest, kind=row["kind"], boot=row["boot"],
            format=row["format"], payload=self.find_payload(row["checksum"]), enabled=bool(row["enabled"]),
            files=files, architecture=row["architecture"],
        )  # fmt: skip

    def enable(self, reference: str, enabled: bool) -> InstalledPlugin:
        row = self._resolve(reference)
        self._database.execute(
            "UPDATE plugins SET enabled = ? WHERE name = ? AND version = ?",
            (int(enabled), row["name"], row["version"]),
        )
        return self.get(f"{row['name']}:{row['version']}")

    async def remove(self, reference: str) -> list[InstalledPlugin]:
        """Remove one version (NAME:VERSION) or all of them (NAME). Conflict while a VM uses one."""
        async with self._lock:
            name, separator, _ = reference.partition(":")
            self._resolve(reference)
            plugins = [self.get(reference)] if separator else [p for p in self.list_all() if p.name == name]
            with self._keep_links(plugins):
                with self._database.transaction():
                    for plugin in plugins:
                        self._remove_row(plugin)
                for checksum in {plugin.checksum for plugin in plugins}:
                    if (
                        self._database.fetch_one("SELECT 1 FROM plugins WHERE checksum = ?", (checksum,))
                        is None
                    ):
                        self.find_payload(checksum).unlink(missing_ok=True)
            await asyncio.to_thread(self.on_removed)
            return plugins

    def _remove_row(self, plugin: InstalledPlugin) -> None:
        if users := self._usage.find_users("plugin", f"{plugin.name}:{plugin.version}"):
            count, names, commands = describe_users(users)
            raise Conflict(
                f"cannot remove plugin {plugin.name} {plugin.version}: {count} use it",
                details=names,
                resolution=f"delete them first: {commands}",
            )
        self._database.execute(
            "DELETE FROM plugins WHERE name = ? AND version = ?", (plugin.name, plugin.version)
        )

    @contextmanager
    def _keep_links(self, plugins: Sequence[InstalledPlugin]) -> Iterator[None]:
        """A second link to each payload that is going, until it has gone."""
        with contextlib.ExitStack() as stack:
            for checksum in {plugin.checksum for plugin in plugins}:
                link = self._incoming / secrets.token_hex(8)
                with contextlib.suppress(FileNotFoundError):
                    os.link(self.find_payload(checksum), link)
                    stack.callback(link.unlink, missing_ok=True)
            yield

    def _resolve(self, reference: str) -> sqlite3.Row:
        name, separator, version = reference.partition(":")
        if separator:
            row = self._find_row(name, version)
            if row is not None:
                return row
        else:
            rows = self._database.fetch_all("SELECT * FROM plugins WHERE name = ?", (name,))
            if rows:
                best: sqlite3.Row = max(rows, key=lambda row: (row["enabled"], version_key(row["version"])))
                return best
        known = [f"{plugin.name}:{plugin.version}" for plugin in self.list_all()]
        raise NotFound(
            f"cannot find plugin {reference}",
            details=[f"installed: {', '.join(known)}" if known else "no plugin is installed"],
            resolution="install it first: volar plugins install PLUGIN.tar.gz",
        )

    def _find_row(self, name: str, version: str) -> sqlite3.Row | None:
        return self._database.fetch_one(
            "SELECT * FROM plugins WHERE name = ? AND version = ?", (name, version)
        )

    def _describe(self, row: sqlite3.Row) -> InstalledPlugin:
        manifest, _ = _read_row(row)
        vms = self._usage.find_vms("plugin", f"{row['name']}:{row['version']}")
        return InstalledPlugin(
            name=row["name"], version=row["version"], description=manifest.description,
            enabled=bool(row["enabled"]), kind=row["kind"], boot=row["boot"], size_bytes=row["size_bytes"],
            virtual_size_bytes=row["virtual_size_bytes"], checksum=row["checksum"],
            installed_at=row["installed_at"], vms=len(vms), manifest=manifest,
        )  # fmt: skip


def _read(
    stream: BinaryIO, descriptor: int, trial: Trial, cancelled: threading.Event
) -> tuple[PluginContent, str]:
    """In a thread: read, check and flush; returns the content and the machine that it is for, "" where it does not say.

    OSErrors of the host's disk become StorageFull.
    """
    source = trial.source

    def on_bytes(_count: int) -> None:
        if cancelled.is_set():
            raise InvalidInput(f"cannot install {source}: cancelled")

    try:
        content = read_plugin_archive(trial.watch(stream), descriptor, on_bytes=on_bytes)
        trial.finish()
        if not content.payload_name:
            content = _fetch_payload(content, descriptor, on_bytes, source)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"cannot install {source}: the host's disk is full",
                resolution="free some space and try again",
            ) from error
        raise InvalidInput(f"cannot install {source}: {error.strerror or error}") from error
    image = find_image_config(descriptor, content)
    return content, image.architecture if image else ""


def _fetch_payload(
    content: PluginContent, descriptor: int, on_bytes: Callable[[int], None], source: str
) -> PluginContent:
    """The disk that a manifest has by URL. Whoever trusts the manifest trusts this too, so it must say the checksum."""
    declared = content.manifest.rootfs or content.manifest.initramfs
    assert declared is not None
    assert declared.url is not None
    if declared.checksum is None:
        raise InvalidInput(
            f"cannot install {source}: its disk is at {declared.url}, and its manifest has no checksum of it",
            resolution='add "checksum": "sha256:…", as sha256sum prints it',
        )
    with Download(declared.url) as download:

        def read(size: int) -> bytes:
            on_bytes(0)
            return download.read(size)

        return read_payload_elsewhere(content, read, descriptor)


def _stored_manifest(content: PluginContent) -> str:
    """The manifest as the database keeps it, with the small files beside it (as text; they are YAML or JSON)."""
    return json.dumps(
        {
            "manifest": content.manifest.model_dump(mode="json", exclude_none=True),
            "files": {name: data.decode("utf-8", "surrogateescape") for name, data in content.files.items()},
        },
        sort_keys=True,
    )


def _read_row(row: sqlite3.Row) -> tuple[Manifest, Mapping[str, str]]:
    """Conflict where it is damaged; installing the plugin again mends that."""
    try:
        _KIND.validate_python((row["kind"], row["boot"]))
        return _read_stored(row["manifest"])
    except (ValueError, TypeError, KeyError) as error:
        raise Conflict(
            f"cannot read plugin {row['name']} {row['version']}: its row in the database is damaged",
            details=str(error)[:500],
            resolution="install the same plugin again: volar plugins install PLUGIN.tar.gz",
        ) from error


def _is_damaged(row: sqlite3.Row) -> bool:
    try:
        _read_row(row)
    except Conflict:
        return True
    return False


@functools.lru_cache(maxsize=KEPT_MANIFESTS)
def _read_stored(text: str) -> tuple[Manifest, Mapping[str, str]]:
    """What `_stored_manifest` wrote. Kept, since most VMs are of few plugins and each look at one asks for it."""
    stored = json.loads(text)
    return Manifest.model_validate(stored["manifest"]), MappingProxyType(stored["files"])


def version_key(version: str) -> tuple[object, ...]:
    """Sort key of a semantic version (https://semver.org, precedence): a release is above its pre-releases."""
    core, _, pre = version.partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    identifiers = tuple(
        (0, int(part), "") if is_whole_number(part) else (1, 0, part)
        for part in (pre.split(".") if pre else ())
    )
    return (*numbers, not pre, identifiers)
