# SPDX-License-Identifier: Apache-2.0
"""/vms/{name}/files: one file of a guest, read and written as bytes, over the agent's SFTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import Query, Request

from volant.volantd.api.replies import ByteStream
from volant.volantd.api.router import Router
from volant.volantd.guest.files import read_file, write_file
from volant.volantd.vms.fleet import Fleet

GuestPath = Annotated[
    str, Query(pattern=r"^/[^\x00]*$", max_length=4096, description="of a file in the guest, from its root")
]
Mode = Annotated[int, Query(ge=0, le=0o7777, description="its permissions, as a decimal number")]


def make_router(fleet: Fleet) -> Router:
    router = Router("/vms/{name}/files", tags=["guests"])

    @router.get("", response_class=ByteStream)
    async def read(name: str, path: GuestPath) -> ByteStream:
        """Read a file of the guest."""
        guest = await fleet.connect(name)
        chunks = read_file(guest.connection.ssh, path)
        # What cannot be opened is told before the reply begins.
        first = await anext(chunks, b"")

        async def content() -> AsyncIterator[bytes]:
            async with aclosing(chunks):
                yield first
                async for chunk in chunks:
                    yield chunk

        return ByteStream(content())

    @router.put("", status_code=204)
    async def write(name: str, path: GuestPath, request: Request, mode: Mode = 0o644) -> None:
        """Write the body to a file of the guest, completely or not at all. Its folder must exist."""
        guest = await fleet.connect(name)
        await write_file(guest.connection.ssh, path, request.stream(), mode)

    return router
