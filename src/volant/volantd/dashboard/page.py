# SPDX-License-Identifier: Apache-2.0
"""Where the page is reached: a loopback listener that is opened when somebody first asks for the page.

Its host name is a random one below localhost, which browsers resolve to loopback themselves. Cookies do not tell ports
of one host apart, and guests' pages are published on 127.0.0.1: under a name of its own the cookie goes nowhere else,
and SameSite means what it says.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from volant.errors import NotFound
from volant.volantd.dashboard.sessions import Sessions

BUILT = Path(__file__).parent / "built"


class Page:
    """`serve` starts a server on a listener; it is given once the application exists."""

    def __init__(self, built: Path = BUILT) -> None:
        self.built = built
        self.sessions = Sessions()
        self.host_name = f"volant-{secrets.token_hex(16)}.localhost"
        self.port: int | None = None
        self.serve: Callable[[socket.socket], None] | None = None

    @property
    def host(self) -> str:
        """What a browser sends as Host."""
        return f"{self.host_name}:{self.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    def make_link(self, who: str) -> str:
        """A link that opens the page once, for `who`. Its code is in the fragment, which no browser sends on."""
        if not (self.built / "index.html").is_file():
            raise NotFound(
                "cannot open the dashboard: this installation was built without it",
                resolution="build it: python scripts/build_dashboard.py in the checkout",
            )
        if self.port is None:
            self._open()
        return f"{self.origin}/#code={self.sessions.make_code(who)}"

    def _open(self) -> None:
        assert self.serve is not None, "links are made by the application, which is served"
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self.serve(listener)

    def find_file(self, path: str) -> Path | None:
        """The built file that `path` of a URL names: index.html or one of assets/, nothing else."""
        name = "index.html" if path == "/" else path.removeprefix("/")
        folder, _, file = name.rpartition("/")
        if folder not in ("", "assets") or file.startswith(".") or not file:
            return None
        found = self.built / folder / file
        return found if found.is_file() else None
