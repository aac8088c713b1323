# SPDX-License-Identifier: Apache-2.0
"""How a template is made, with a machine that is played; real ones are made in the tests of warm starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.template_shapes import TemplateHypervisor, make_shape
from volant.contract.guest_config import GuestConfig
from volant.errors import ToolFailed
from volant.volantd.templates import making
from volant.volantd.templates.making import make_template, sweep
from volant.volantd.templates.shape import add_workload
from volant.volantd.templates.store import TemplateStore
from volant.volantd.templates.workload import NAME, NO_CONTROL, Keys, Workload
from volant.volantd.vms.disks import make_overlay, read_backing


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []

    async def wait(_stream: object, *, timeout_seconds: float) -> None:
        found.append(timeout_seconds)

    monkeypatch.setattr(making, "wait_for_template", wait)
    return found


async def test_a_template_is_its_memory_and_nothing_else(tmp_path: Path, asked: list[float]) -> None:
    hypervisor: Any = TemplateHypervisor()
    store = TemplateStore(tmp_path / "templates")
    shape = make_shape(tmp_path, hypervisor)
    template = await make_template(shape, hypervisor, store, tmp_path)
    assert store.find(shape.key) == template
    assert {path.name for path in template.image.folder.iterdir()} == {"state", "memory", "template.json"}
    assert (template.image.is_copied, template.image.has_pages) == (True, True)
    assert (len(asked), hypervisor.killed) == (1, 1)
    (spec,) = hypervisor.started
    assert spec.id == shape.key[:12]  # a user of its own is chosen by it
    assert "web" not in repr(spec)


async def test_a_workloads_template_keeps_its_disk(
    tmp_path: Path, asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hypervisor: Any = TemplateHypervisor()
    entered: list[Keys] = []

    @asynccontextmanager
    async def held(_machine: object, keys: Keys) -> AsyncIterator[None]:
        entered.append(keys)
        yield

    monkeypatch.setattr(making, "held_workload", held)
    store = TemplateStore(tmp_path / "templates")
    config = GuestConfig(vm_id=NAME, vm_name=NAME, hostname=NAME, control=NO_CONTROL)
    (tmp_path / "payload").write_bytes(bytes(1 << 20))
    make_disk = partial(make_overlay, backing=tmp_path / "payload", backing_format="raw", size_bytes=None)
    workload = Workload("web:1.0.0", tmp_path / "payload", config, Keys("", ""), make_disk)
    shape = add_workload(make_shape(tmp_path, hypervisor), workload)
    template = await make_template(shape, hypervisor, store, tmp_path)
    assert (len(entered), asked, hypervisor.killed) == (1, [], 1)
    names = {path.name for path in template.image.folder.iterdir()}
    assert names == {"state", "memory", "disk", "template.json"}
    assert read_backing(template.disk) == tmp_path / "payload"
    assert (template.plugin, template.payload) == ("web:1.0.0", tmp_path / "payload")
    assert (template.image.is_template, template.image.has_workload) == (True, True)


async def test_a_failure_leaves_neither_process_nor_file(tmp_path: Path, asked: list[float]) -> None:
    hypervisor: Any = TemplateHypervisor(failure=ToolFailed("it cannot be paused"))
    store = TemplateStore(tmp_path / "templates")
    with pytest.raises(ToolFailed):
        await make_template(make_shape(tmp_path, hypervisor), hypervisor, store, tmp_path)
    assert (hypervisor.killed, store.list_all(), store.list_hidden()) == (1, [], [])


async def test_sockets_move_where_their_path_is_too_long(tmp_path: Path, asked: list[float]) -> None:
    hypervisor: Any = TemplateHypervisor()
    runtime = tmp_path / "run"
    store = TemplateStore(tmp_path / ("long" * 30) / "templates")
    await make_template(make_shape(tmp_path, hypervisor), hypervisor, store, runtime)
    assert hypervisor.started[0].socket_folder.parent == runtime
    assert list(runtime.iterdir()) == []


def test_what_a_killed_daemon_left_is_ended_and_removed(tmp_path: Path) -> None:
    store = TemplateStore(tmp_path / "templates")
    hidden = store.folder / ".left"
    hidden.mkdir(parents=True)
    program = "import sys, time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(hidden / "boot.cpio")], stdout=subprocess.PIPE
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        sweep(store, tmp_path)
        assert left.wait(20) == -9
    assert not hidden.exists()
