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
        self._length = int(length) if is_whole_number(length) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reply.close()

    def read(self, size: int) -> bytes:
        """Empty at its end. Raises Unreachable."""
        while True:
            try:
                data: bytes = self._reply.read(size)
            except (OSError, http.client.HTTPException) as error:
                self._go_on(str(error) or type(error).__name__)
                continue
            if not data and self._length is not None and self._position < self._length:
                self._go_on("it ended too early")
                continue
            self._position += len(data)
            return data

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
