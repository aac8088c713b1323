# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from volant.volantd import node_agent
from volant.volantd.node_agent import keep_node_agent
from volant.volantd.settings import Settings


async def wait_for(path: Path, *, lines: int) -> None:
    async with asyncio.timeout(60):
        while not path.exists() or len(path.read_text().splitlines()) < lines:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_it_begins_when_a_host_joins_is_begun_again_and_ends_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, program = tmp_path / "log", tmp_path / "program"
    program.write_text(
        f"import pathlib, sys, time\nlog = pathlib.Path({str(log)!r})\n"
        "with log.open('a') as stream:\n    stream.write('begun\\n')\n"
        "if len(log.read_text().splitlines()) > 1:\n"
        "    import signal\n"
        "    ended = log.with_name('ended')\n"
        "    signal.signal(signal.SIGTERM, lambda *_: (ended.write_text('ended\\n'), sys.exit()))\n"
        "    sys.stdin.read()\n"
    )
    monkeypatch.setattr(node_agent, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(node_agent, "COMMAND", (sys.executable, str(program)))
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    keeping = asyncio.create_task(keep_node_agent(settings))
    kubeconfig = tmp_path / "kubernetes" / "node.kubeconfig"
    async with asyncio.timeout(60):
        while not kubeconfig.parent.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert not log.exists()
    kubeconfig.touch()
    await wait_for(log, lines=2)
    kubeconfig.unlink()
    await wait_for(log.with_name("ended"), lines=1)
    kubeconfig.touch()
    await wait_for(log, lines=3)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
