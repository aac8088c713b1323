# SPDX-License-Identifier: Apache-2.0
"""A command in a guest while it runs: what it is given to read, and what it writes, as it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from volant.errors import Unreachable


class Output(NamedTuple):
    """Bytes that the command wrote. With a terminal all of them are `stdout`."""

    source: Literal["stdout", "stderr"]
    content: bytes


class RunningCommand:
    """Iterate over it for what it writes, until it ends; `exit_code` is known from then on.

    It writes no faster than it is read. Another thread may write while this one reads.
    """

    def __init__(self, stream: ClientConnection, name: str) -> None:
        self._stream = stream
        self._name = name
        self.exit_code: int | None = None

    def write(self, content: bytes) -> None:
        """Give it more to read. One that has ended does not mind."""
        if content:
            with suppress(ConnectionClosed):
                self._stream.send(content)

    def close_input(self) -> None:
        """It has been given everything."""
        with suppress(ConnectionClosed):
            self._stream.send("")

    def resize(self, columns: int, rows: int) -> None:
        """Its terminal has another size now."""
        with suppress(ConnectionClosed):
            self._stream.send(json.dumps({"columns": columns, "rows": rows}))

    def leave(self) -> None:
        """Go without waiting for its end; who iterates over it sees Unreachable."""
        self._stream.close()

    def __iter__(self) -> Iterator[Output]:
        for message in self._stream:
            if isinstance(message, bytes):
                yield Output("stdout", message)
                continue
            note = json.loads(message)
            if "stderr" in note:
                yield Output("stderr", note["stderr"].encode())
            self.exit_code = note.get("exit_code", self.exit_code)
        if self.exit_code is None:
            raise Unreachable(
                f"cannot follow {self._name}: the stream ended before the command did",
                resolution="see 'volar vms list': the VM may have stopped, or the daemon",
            )

    def wait(self) -> int:
        """Its exit code, once it has ended; what it still writes is dropped."""
        for _ in self:
            pass
        assert self.exit_code is not None
        return self.exit_code
