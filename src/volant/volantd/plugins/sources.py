# SPDX-License-Identifier: Apache-2.0
"""Where the daemon itself takes a plugin's archive from: a path of the host, or an address."""

from __future__ import annotations

import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

from volant.contract.plugin_evidence import BUNDLE_SUFFIX, MOST_BUNDLE_BYTES
from volant.digits import is_whole_number
from volant.errors import InvalidInput, NotFound, Unreachable, VolantError

DOWNLOAD_TIMEOUT_SECONDS = 60
# Of a server that sends a byte now and then nobody waits for the last one.
PACE_SECONDS, PACE_BYTES = 60.0, 256 << 10
MOST_BREAKS, PAUSE_SECONDS = 5, 1.0


def open_path(path: str) -> BinaryIO:
    """A file of the host; blocking, but for nobody's writing: what is no file has no end either."""
    try:
        flags = (
            os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        )  # else opening a pipe waits for a writer
        stream = os.fdopen(os.open(path, flags), "rb")
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise NotFound(f"cannot install {path}: {cause}") from error
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise NotFound(f"cannot install {path}: it is not a file")
    return stream


def fetch_bundle(url: str) -> bytes | None:
    """The signature beside an address; None where there is none."""
    try:
        with open_url(url + BUNDLE_SUFFIX) as reply:
            return reply.read(MOST_BUNDLE_BYTES)
    except VolantError:
        return None


def open_url(url: str, headers: Mapping[str, str] | None = None) -> BinaryIO:
    """What an http or https address answers with; blocking."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("only http and https addresses are fetched")
        request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  # checked above
        reply: BinaryIO = urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise NotFound(f"cannot fetch {url}: HTTP {error.code} {error.reason}") from error
    except (
        ValueError,
        http.client.InvalidURL,
    ) as error:  # a port that is none, a space, letters outside of ASCII
        raise InvalidInput(f"cannot fetch {url}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"cannot fetch {url}: {error}") from error
    return reply


class Download:
    """What an address answers with, from where it was when its connection breaks; blocking.

    That it is still the same is for the caller to find out, by its checksum.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._position = 0
        self._breaks = 0
        self._reply = self._ask({})
        length = self._reply.headers.get("Content-Length", "")
        self.length = int(length) if is_whole_number(length) else None
        self._pace = (time.monotonic(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reply.close()

    def read(self, size: int) -> bytes:
        """What is there, `size` bytes at most; empty at its end. Raises Unreachable."""
        while True:
            self._check_pace()
            try:
                data: bytes = self._reply.read1(size)
            except (OSError, http.client.HTTPException) as error:
                self._go_on(str(error) or type(error).__name__)
                continue
            if not data and self.length is not None and self._position < self.length:
                self._go_on("it ended too early")
                continue
            self._position += len(data)
            return data

    def _check_pace(self) -> None:
        began, position = self._pace
        if time.monotonic() - began < PACE_SECONDS:
            return
        if self._position - position < PACE_BYTES:
            raise Unreachable(
                f"cannot fetch {self._url}: it sent {self._position - position} bytes in {PACE_SECONDS:g} s",
                resolution="try again when its server is less busy",
            )
        self._pace = (time.monotonic(), self._position)

    def _ask(self, headers: Mapping[str, str]) -> Any:
        """urllib's reply."""
        return open_url(self._url, headers)

    def _go_on(self, cause: str) -> None:
        self._reply.close()
        self._breaks += 1
        if self._breaks > MOST_BREAKS:
            raise Unreachable(f"cannot fetch {self._url}: {cause}, after {self._position} bytes")
        time.sleep(PAUSE_SECONDS * self._breaks)
        self._reply = self._ask({"Range": f"bytes={self._position}-"} if self._position else {})
        if self._position and self._reply.status != http.HTTPStatus.PARTIAL_CONTENT:
            raise Unreachable(
                f"cannot fetch {self._url}: {cause}, after {self._position} bytes",
                details="its server cannot resume a download",
            )
