# SPDX-License-Identifier: Apache-2.0
"""Which folders of the host a VM may have, who may ask for them, and what its guest is told."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput, NotFound, NotPermitted
from volant.volantd.api.mount_rights import check_may_mount
from volant.volantd.request_context import RequestContext, enter_request
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.folders import attach_folders, check_folders, make_host_folders


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as found:
        yield found


def test_folders_and_files_in_the_order_of_their_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = [(str(tmp_path / "file"), "/etc/app/app.conf", True), (str(tmp_path), "/app/", False)]
    app, conf = attach_folders("web", wanted)
    assert (app.target, app.is_file, app.read_only) == ("/app", False, False)
    assert (conf.target, conf.is_file, conf.read_only) == ("/etc/app/app.conf", True, True)


@pytest.mark.parametrize("target", ["app", "/", "/proc/x", "/run", "/a/../b", ""])
def test_places_that_no_folder_has(tmp_path: Path, target: str) -> None:
    with pytest.raises(InvalidInput, match="cannot mount"):
        attach_folders("web", [(str(tmp_path), target, False)])


def test_what_cannot_be_mounted(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        attach_folders("web", [(str(tmp_path / "none"), "/app", False)])
    with pytest.raises(InvalidInput, match="absolute"):
        attach_folders("web", [("src", "/app", False)])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidInput, match="neither"):
        attach_folders("web", [(str(tmp_path / "fifo"), "/app", False)])
    with pytest.raises(InvalidInput, match="two folders"):
        attach_folders("web", [(str(tmp_path), "/app", False), (str(tmp_path), "/app/", True)])
    with pytest.raises(InvalidInput, match="at most"):
        attach_folders("web", [(str(tmp_path), f"/app{number}", False) for number in range(17)])


async def test_a_vm_knows_its_folders_and_misses_one_that_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    record = await fleet.create(
        NewVm(name="web", plugin="web", mounts=[(str(source), "/app", True)], start=False)
    )
    told = make_host_folders(record)
    assert told is not None
    assert [(mount.target, mount.read_only) for mount in told.mounts] == [("/app", True)]
    assert told.mark == record.definition.mounts_mark != ""
    source.rmdir()
    with pytest.raises(NotFound):
        await fleet.start("web")
    source.write_text("a file now")
    with pytest.raises(Conflict, match="not a folder any more"):
        check_folders(record)


@pytest.mark.parametrize("who", ["token ci", "the daemon's token", "nobody", "uid 4242", ""])
async def test_a_token_stands_for_nobodys_files(who: str) -> None:
    enter_request(RequestContext("r1", who=who))
    check_may_mount([])
    with pytest.raises(NotPermitted, match="only the daemon's own user"):
        check_may_mount(["/home"])


async def test_the_daemons_own_user_may() -> None:
    enter_request(RequestContext("r1", who=f"uid {os.geteuid()}"))
    check_may_mount(["/home"])
