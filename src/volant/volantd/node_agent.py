# SPDX-License-Identifier: Apache-2.0
"""Keeps the Kubernetes node agent beside the daemon: a program of its own, which uses the API as any client does.

It ends with the daemon, whose end it sees by its standard input, and is started again where it fell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from volant.volantd.folder_changes import watch_folder
from volant.volantd.settings import Settings

logger = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "volant.kubernetes")
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 1.0, 60.0
STABLE_SECONDS = 60.0
STOP_SECONDS = 10.0


async def keep_node_agent(settings: Settings) -> None:
    """While there is a kubeconfig for it, until this is cancelled."""
    kubeconfig = settings.kubernetes or settings.state_dir / "kubernetes" / "node.kubeconfig"
    if settings.kubernetes is None:
        kubeconfig.parent.mkdir(mode=0o700, exist_ok=True)
    command = [*COMMAND, "--kubeconfig", str(kubeconfig), "--daemon", str(settings.socket), "--with-parent"]
    pause_seconds = FIRST_PAUSE_SECONDS
    async with watch_folder(kubeconfig.parent) as changed:
        while True:
            changed.clear()
            if not kubeconfig.exists():
                await changed.wait()
                continue
            began = time.monotonic()
            code = await _run(command, kubeconfig.exists, changed)
            if not kubeconfig.exists():
                continue
            if time.monotonic() - began > STABLE_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            logger.warning(
                "the Kubernetes node agent ended with %d; starting again in %g s", code, pause_seconds
            )
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, MOST_PAUSE_SECONDS)


async def _run(command: Sequence[str], is_wanted: Callable[[], bool], changed: asyncio.Event) -> int:
    """The agent, until it falls or the host has left its cluster. Returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    ended = asyncio.create_task(process.wait())
    try:
        while is_wanted() and not ended.done():
            changed.clear()
            looking = asyncio.create_task(changed.wait())
            await asyncio.wait({ended, looking}, return_when=asyncio.FIRST_COMPLETED)
            looking.cancel()
    finally:
        await _end(process)
        code = await ended
    return code


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
