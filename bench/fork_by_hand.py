# SPDX-License-Identifier: Apache-2.0
"""What a fork cannot take less than: the bare machine's memory in another QEMU, which becomes nobody else.

No daemon, no client, no confinement, no network of its own, no identity: QEMU's start, its state, an overlay, and the
page by code that this QEMU runs for the first time. One at a time, since each is reached at the same port.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import time
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from bench import bench_line
from volant.volantd.hypervisors.base import MemoryImage
from volant.volantd.hypervisors.qemu_memory import load_memory, save_memory
from volant.volantd.vms.disks import make_overlay

START_SECONDS = 30.0
# From the last copy's start until their memory is looked at.
IDLE_SECONDS = 5.0


def read_pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


class HandFork:
    """Copies of a bare machine that serves its page, which ends here."""

    def __init__(self, original: subprocess.Popen[bytes], folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        command: list[str] = list(original.args)  # type: ignore[arg-type]  # a list, as bench_line makes it
        self._image = asyncio.run(_save(original.pid, _find_socket(command), folder))
        original.kill()
        original.wait()
        disk = next(Path(found[1]) for text in command if (found := re.search(r'"(/[^"]*\.qcow2)"', text)))
        self._layer = disk.rename(folder / "layer.qcow2")
        self._overlay = folder / "overlay.qcow2"
        home = str(disk.parent)
        memory = f"memory-backend-file,id=ram,mem-path={self._image.memory},share=off"
        moved = [
            text.replace(str(disk), str(self._overlay)).replace(f"={home}/", f"={folder}/")
            for text in command
        ]
        self._command = [
            re.sub(r"memory-backend-memfd,id=ram(,size=\w+),share=on", memory + r"\1", text) for text in moved
        ]

    def begin(self) -> subprocess.Popen[bytes]:
        return self._begin(self._command, self._overlay)

    def _begin(self, command: list[str], overlay: Path) -> subprocess.Popen[bytes]:
        socket = _find_socket(command)
        for left in (overlay, socket):
            left.unlink(missing_ok=True)
        make_overlay(overlay, self._layer, "qcow2", None)
        process = subprocess.Popen(
            [*command, "-incoming", "defer"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        asyncio.run(self._wake(socket))
        return process

    def measure_mib(self, count: int) -> float:
        """Memory of each of so many copies at once that have given their page and idle."""
        processes = []
        try:
            for number in range(1, count + 1):
                folder = self._folder / str(number)
                folder.mkdir()
                port = bench_line.PORT + number
                command = [self._move(text, folder, port) for text in self._command]
                processes.append(self._begin(command, folder / self._overlay.name))
                bench_line.wait_for_page(port)
            time.sleep(IDLE_SECONDS)
            return statistics.mean(read_pss_mib(process.pid) for process in processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def _move(self, text: str, folder: Path, port: int) -> str:
        """Of the command: its own sockets, overlay and port, and the same memory."""
        text = text.replace(f'"{self._overlay}"', f'"{folder / self._overlay.name}"')
        text = re.sub(f"(?<!mem-path)={re.escape(str(self._folder))}/", f"={folder}/", text)
        return text.replace(f":{bench_line.PORT}-", f":{port}-")

    async def _wake(self, socket: Path) -> None:
        client = await _connect(socket)
        await load_memory(client, self._image)
        await client.execute("cont")
        await client.disconnect()


async def _save(pid: int, socket: Path, folder: Path) -> MemoryImage:
    client = await _connect(socket)
    await client.execute("stop")
    image = await save_memory(client, pid, folder)
    await client.disconnect()
    return image


async def _connect(socket: Path) -> QMPClient:
    deadline = time.monotonic() + START_SECONDS
    while True:
        client = QMPClient()
        try:
            await client.connect(str(socket))
        except (OSError, QMPError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.002)
        else:
            return client


def _find_socket(command: list[str]) -> Path:
    return next(Path(found[1]) for text in command if (found := re.search(r"id=qmp,path=([^,]+)", text)))
