# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path

import pytest

from volant.errors import ToolMissing
from volant.process import start_detached
from volant.volantd.hypervisors.host_process import ExitStatus, HostProcess, identify


def start(code: str, tmp_path: Path) -> int:
    return start_detached([sys.executable, "-c", code], tmp_path / "log")


async def hold(pid: int) -> HostProcess:
    identity = identify(pid)
    assert identity is not None
    process = HostProcess.open(identity)
    assert process is not None
    return process


async def test_a_childs_exit_code_and_signal_are_learnt(tmp_path: Path) -> None:
    process = await hold(start("import sys, time; time.sleep(1); print('said'); sys.exit(7)", tmp_path))
    assert await asyncio.wait_for(process.wait(), 20) == ExitStatus(exit_code=7)
    assert process.is_ended
    assert (tmp_path / "log").read_text() == "said\n"

    process = await hold(start("import time; time.sleep(60)", tmp_path))
    process.kill()
    assert await asyncio.wait_for(process.wait(), 20) == ExitStatus(signal="SIGKILL")
    process.kill()


async def test_a_detached_process_leads_its_own_session(tmp_path: Path) -> None:
    pid = start("import time; time.sleep(60)", tmp_path)
    process = await hold(pid)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    process.kill()
    await process.wait()


async def test_anothers_child_is_watched_without_its_status(tmp_path: Path) -> None:
    # The parent in between ends at once; what is left is nobody's child of ours.
    code = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    )
    parent = await hold(start(code, tmp_path))
    await parent.wait()
    process = await hold(int((tmp_path / "log").read_text()))
    os.kill(process.identity.pid, signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == ExitStatus()


async def test_a_number_used_again_is_another_process() -> None:
    ours = identify(os.getpid())
    assert ours is not None
    assert HostProcess.open(dataclasses.replace(ours, start_ticks=ours.start_ticks - 1)) is None
    assert HostProcess.open(dataclasses.replace(ours, boot_id="another boot")) is None
    assert identify(2**22 + 1) is None
    same = HostProcess.open(ours)
    assert same is not None
    same.close()


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="no-such-qemu"):
        start_detached(["/no-such-qemu"], tmp_path / "log")
