# SPDX-License-Identifier: Apache-2.0
"""A web server with one file, whose connections break."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def serve(content: bytes, *, breaks_after: int = 0, knows_ranges: bool = True) -> Iterator[str]:
    """The file's address; with `breaks_after` each reply ends after so many bytes of it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            start = 0
            wanted = self.headers.get("Range", "") if knows_ranges else ""
            if wanted:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + breaks_after if breaks_after else len(content)
            with contextlib.suppress(OSError):
                self.wfile.write(content[start:end])

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/file"
        finally:
            server.shutdown()
            serving.join()
