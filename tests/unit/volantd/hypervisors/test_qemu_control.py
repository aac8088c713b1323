# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.fake_qmp import serve_qmp
from volant.errors import ToolFailed
from volant.volantd.hypervisors.qemu_control import QemuControl


async def test_what_is_asked_and_what_is_told(tmp_path: Path) -> None:
    control = QemuControl(tmp_path / "qmp", "web")
    assert await control.try_connect() is None  # nobody listens yet
    with pytest.raises(ToolFailed, match="cannot stop web: there is no connection to its QEMU"):
        await control.execute("stop")
    async with serve_qmp(tmp_path / "qmp") as qemu:
        assert await control.try_connect() == {"running": True, "status": "running"}
        assert control.is_connected
        await control.execute("stop")
        assert qemu.heard[-1] == "stop"
        with pytest.raises(ToolFailed, match="cannot fail web: no such thing"):
            await control.execute("fail")
        qemu.tell("STOP")
        assert (await control.wait_event())["event"] == "STOP"
        qemu.tell("SHUTDOWN", reason="guest-reset")
        qemu.hang_up()
        # Sent before the end, and read after it.
        assert [event["data"] for event in await control.read_last_events()] == [{"reason": "guest-reset"}]
        assert not control.is_connected
        await control.disconnect()


async def test_one_that_says_nothing_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = QemuControl(tmp_path / "qmp", "web")
    async with serve_qmp(tmp_path / "qmp") as qemu:
        qemu.is_silent = True
        assert await control.try_connect(0.1) is None
        assert not control.is_connected
        assert caplog.messages == []
        qemu.is_silent = False
        assert await control.try_connect() is not None
        await control.disconnect()
