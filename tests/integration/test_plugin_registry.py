# SPDX-License-Identifier: Apache-2.0
"""Plugins to and from a real registry, by a real skopeo."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.image_registry import KINDS, RegistryKind
from support.in_process_daemon import start_in_process
from volant import plugin_registry
from volant.errors import InvalidInput, NotFound, Unreachable
from volant.plugin_registry import pull_plugin, push_plugin
from volant.process import run_tool
from volant.volar.cli import run


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> RegistryKind:
    found: RegistryKind = request.param
    return found


@pytest.fixture(scope="module")
def folder(kind: RegistryKind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(kind: RegistryKind, folder: Path) -> Iterator[str]:
    with kind.start(folder) as address:
        yield address


@pytest.fixture(autouse=True)
def small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_registry, "PART_BYTES", 1 << 16)
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path / "home"))


def make_archive(seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(300_000)


def pull(reference: str) -> bytes:
    with pull_plugin(reference) as pulled:
        content = b"".join(pulled.read())
        assert len(content) == pulled.size_bytes
    return content


def push(content: bytes, reference: str) -> str:
    return push_plugin(io.BytesIO(content), reference, name="web", version="1.0.0")


def test_what_is_pushed_is_pulled(registry: str, tmp_path: Path) -> None:
    reference = f"{registry}/team/web:1.0"
    digest = push(make_archive(), reference)
    assert pull(reference) == make_archive() == pull(f"{registry}/team/web@{digest}")
    assert push(make_archive(), f"{registry}/team/web:again") == digest
    raw = run_tool(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]).stdout
    assert '"artifactType":"application/vnd.volant.plugin.v1"' in raw
    assert list((tmp_path / "home" / "cache" / "pulls").glob("*[!k]")) == []


def test_a_pull_that_was_cut_off_fetches_what_is_missing(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"{registry}/team/cut:1.0"
    push(make_archive(2), reference)
    with pytest.raises(KeyboardInterrupt), pull_plugin(reference) as pulled:
        kept = [(part, part.stat().st_ino) for part in pulled.parts]
        kept[0][0].unlink()
        raise KeyboardInterrupt
    with pull_plugin(reference) as pulled:
        assert b"".join(pulled.read()) == make_archive(2)
        assert [part.stat().st_ino for part in pulled.parts[1:]] == [inode for _, inode in kept[1:]]


def test_what_the_registry_has_is_not_sent_again(registry: str, kind: RegistryKind, folder: Path) -> None:
    def list_blobs() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in folder.rglob(kind.blobs)}

    content = make_archive(3)
    push(content, f"{registry}/team/parts:1")
    before = list_blobs()
    changed = content[:-10] + b"0123456789"
    push(changed, f"{registry}/team/parts:2")
    after = list_blobs()
    assert len(before) > 5
    assert before.items() <= after.items()
    assert len(after) - len(before) == 1 + kind.keeps_manifests  # the last part, and the manifest
    assert pull(f"{registry}/team/parts:2") == changed


def test_what_is_not_there_or_no_plugin(registry: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot pull the plugin"):
        pull(f"{registry}/team/none:1")
    with pytest.raises(Unreachable, match="no answer"):
        pull("127.0.0.1:1/a:1")
    layout = tmp_path / "image"
    run_tool(["umoci", "init", "--layout", str(layout)])
    run_tool(["umoci", "new", "--image", f"{layout}:x"])
    target = f"docker://{registry}/team/image:1"
    run_tool(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:x", target])
    with pytest.raises(InvalidInput, match="an image and no plugin"):
        pull(f"{registry}/team/image:1")


def test_volar_carries_plugins_from_a_daemon_to_a_daemon(
    registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = f"{registry}/team/volar:1"
    with start_in_process() as daemon:
        daemon.install("travels", description="of a test")
        plugin = daemon.client.get_plugin("travels")
        assert run(["plugins", "push", "travels", reference], daemon.client) == 0
        pushed = capsys.readouterr().out
    with start_in_process() as daemon:
        assert run(["plugins", "install", reference], daemon.client) == 0
        found = daemon.client.get_plugin("travels")
        assert (found["checksum"], found["manifest"]) == (plugin["checksum"], plugin["manifest"])
        assert run(["plugins", "pull", reference], daemon.client) == 0
        # The same bytes whoever exports it.
        assert run(["plugins", "push", "travels", f"{reference}-again"], daemon.client) == 0
        assert capsys.readouterr().out.split("(")[-1] == pushed.split("(")[-1]
