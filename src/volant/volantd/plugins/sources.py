# SPDX-License-Identifier: Apache-2.0
"""Where the daemon itself takes a plugin's archive from: a path of the host, or an address."""

from __future__ import annotations

import http.client
import os
import stat
import urllib.error
import urllib.request
from typing import BinaryIO
from urllib.parse import urlsplit

from volant.contract.plugin_evidence import BUNDLE_SUFFIX, MOST_BUNDLE_BYTES
from volant.errors import InvalidInput, NotFound, Unreachable, VolantError

DOWNLOAD_TIMEOUT_SECONDS = 60


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
        raise NotFound(f"cannot install {path}: it is no file")
    return stream


def fetch_bundle(url: str) -> bytes | None:
    """The signature beside an address; None where there is none."""
    try:
        with open_url(url + BUNDLE_SUFFIX) as reply:
            return reply.read(MOST_BUNDLE_BYTES)
    except VolantError:
        return None


def open_url(url: str) -> BinaryIO:
    """What an http or https address answers with; blocking."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("only http and https addresses are fetched")
        reply: BinaryIO = urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS)  # noqa: S310  # checked above
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
