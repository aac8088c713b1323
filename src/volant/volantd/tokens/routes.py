# SPDX-License-Identifier: Apache-2.0
"""/tokens: what a token is comes out once, when it is made."""

from __future__ import annotations

from dataclasses import asdict

from volant.contract.system_api import NewToken, Token, TokenCreate, TokenRotate
from volant.volantd.api.router import Router
from volant.volantd.request_context import note_target
from volant.volantd.tokens.store import TokenStore


def make_router(tokens: TokenStore) -> Router:
    router = Router("/tokens", tags=["tokens"])

    @router.get("")
    async def list_tokens() -> list[Token]:
        return [Token(**asdict(token)) for token in tokens.list_all()]

    @router.post("", status_code=201)
    async def create(request: TokenCreate) -> NewToken:
        """The reply is the only one that tells the token."""
        note_target(request.name)
        token, text = tokens.create(request.name, request.scope, request.lifetime_seconds)
        return NewToken(**asdict(token), token=text)

    @router.post("/{name}/rotate")
    async def rotate(name: str, request: TokenRotate | None = None) -> NewToken:
        """Another token of that name; the one before is taken for `overlap_seconds` more."""
        token, text = tokens.rotate(name, (request or TokenRotate()).overlap_seconds)
        return NewToken(**asdict(token), token=text)

    @router.delete("/{name}", status_code=204)
    async def remove(name: str) -> None:
        """It is refused from now on."""
        tokens.remove(name)

    return router
