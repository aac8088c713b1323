# SPDX-License-Identifier: Apache-2.0
"""The API as Python calls, over http.client (httpx alone takes longer to import than a table command may take).

Replies other than 2xx become the same exceptions that the daemon raised: its error code picks the class, so exit codes
are the same on both sides of the socket. Nothing here knows the command line.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlencode

from volant import errors
from volant.client.connection import Connector, make_connector

T = TypeVar("T")

RETRY_SECONDS, RETRY_PAUSE_SECONDS = 10.0, 0.3
# A VM's disks may have to be fetched first; the daemon ends that where nothing comes any more.
MOST_MAKING_SECONDS = 12 * 3600.0
ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.VolantError)
}


class Transport:
    """The API of the daemon at `address`; `connect` is how it is reached (default: as the address says)."""

    def __init__(self, address: str, token: str | None = None, *, connect: Connector | None = None) -> None:
        self.address = address
        self.token = token
        self.connect = connect or make_connector(address)
        self.next_key = ""
        """The Idempotency-Key of what is made next; empty: a new one."""

    def headers(self) -> dict[str, str]:
        if not self.token:
            return {}
        if not (self.token.isascii() and self.token.isprintable()):
            raise errors.UsageError(
                "cannot use the token: it holds what no token does", resolution="see VOLANT_TOKEN"
            )
        return {"Authorization": f"Bearer {self.token}"}

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        upload: IO[bytes] | Iterator[bytes] | None = None,
        upload_length: int | None = None,
        upload_type: str = "application/gzip",
        timeout_seconds: float | None = 60,
        idempotency_key: str = "",
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; the reply stays open for streaming. `path` is below /api/v1 unless it starts with "//"."""
        target = path[1:] if path.startswith("//") else f"/api/v1{path}"
        target += encode_query(query or {})
        headers = self.headers()
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        content: Any = None
        if upload is not None:
            content = upload
            headers["Content-Type"] = upload_type
            if upload_length is not None:
                headers["Content-Length"] = str(upload_length)
        elif body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self.connect(timeout_seconds)
        try:
            try:
                connection.request(method, target, body=content, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                # The daemon answered before it read all of an upload: the reply says why.
                pass
            reply = connection.getresponse()
            if not 200 <= reply.status < 300:
                raise read_error(reply.status, reply.read())
            yield reply
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise errors.Unreachable(
                f"cannot finish {method} {target}: volantd at {self.address} went away",
                details=str(error) or type(error).__name__,
                resolution="see 'volar daemon status'; the daemon starts again with the next command",
            ) from error
        finally:
            connection.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request with its whole reply as JSON (None where it is empty)."""
        with self.open(method, path, **options) as reply:
            content = reply.read()
        return json.loads(content) if content else None

    def get(self, path: str, **query: Any) -> Any:
        return ask_again(lambda: self.call("GET", path, query=query))

    def get_all(self, path: str, **query: Any) -> list[Any]:
        """A whole list, page by page: the header Next-After names the last of a page that others follow."""

        def get_page(after: str) -> tuple[list[Any], str]:
            with self.open("GET", path, query={**query, "after": after}) as reply:
                return json.loads(reply.read()), reply.headers.get("Next-After", "")

        rows: list[Any] = []
        after = ""
        while True:
            last = after
            page, after = ask_again(partial(get_page, last))
            rows += page
            if not after or after == last:
                return rows

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, body={} if body is None else body, **options)

    def make(self, path: str, body: Any, **options: Any) -> Any:
        """A request that makes something: once, however often the daemon goes away meanwhile, or is at it for longer
        than one answer is waited for.

        It knows the tries of one request by their key.
        """
        key, self.next_key = self.next_key or secrets.token_hex(16), ""
        began = time.monotonic()
        deadline = began + RETRY_SECONDS
        while True:
            try:
                return self.post(path, body, idempotency_key=key, **options)
            except errors.Unreachable as error:
                now = time.monotonic()
                if isinstance(error.__cause__, TimeoutError) and now < began + MOST_MAKING_SECONDS:
                    deadline = now + RETRY_SECONDS
                elif not has_gone_away(error) or now > deadline:
                    raise
            time.sleep(RETRY_PAUSE_SECONDS)

    def delete(self, path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query, timeout_seconds=180)


def ask_again(ask: Callable[[], T]) -> T:
    """What only reads is asked a second time where the daemon ended meanwhile (RFC 9110, section 9.2.2)."""
    try:
        return ask()
    except errors.Unreachable as error:
        if not isinstance(error.__cause__, ConnectionError | http.client.HTTPException):
            raise
    return ask()


def has_gone_away(error: errors.Unreachable) -> bool:
    """Whether it was the daemon that did not answer, rather than something that it could not reach."""
    return isinstance(error.__cause__, OSError | http.client.HTTPException)


def encode_query(query: Mapping[str, Any]) -> str:
    """The query with its question mark. None, False and empty text are left out, True is "true", a list repeats."""
    pairs = [
        (name, "true" if value is True else value)
        for name, given in query.items()
        for value in (given if isinstance(given, list | tuple) else (given,))
        if value is not None and value is not False and value != ""
    ]
    return f"?{urlencode(pairs)}" if pairs else ""


def read_error(status: int, content: bytes) -> errors.VolantError:
    """The exception that an error reply stands for."""
    try:
        reply = json.loads(content)
        kind = ERRORS.get(reply["code"], errors.VolantError)
        return kind(reply["error"], details=reply.get("details", ()), resolution=reply.get("resolution", ""))
    except (ValueError, KeyError, TypeError):
        text = content.decode("utf-8", "replace").strip()[:500]
        return errors.VolantError(f"volantd answered with HTTP {status}", details=text)


def quoted(name: str) -> str:
    """A name as one segment of a path. Raises InvalidInput for bytes that are no text."""
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as error:
        raise errors.InvalidInput(f"cannot use the name {name!r}: it is not UTF-8") from error
