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
        """List names, scopes and expiry of tokens; never their values."""
        return [Token(**asdict(token)) for token in tokens.list_all()]

    @router.post("", status_code=201)
    async def create(request: TokenCreate) -> NewToken:
        """Create a token. This reply is the only one that contains it."""
        note_target(request.name)
        token, text = tokens.create(request.name, request.scope, request.lifetime_seconds)
        return NewToken(**asdict(token), token=text)

    @router.post("/{name}/rotate")
    async def rotate(name: str, request: TokenRotate | None = None) -> NewToken:
        """Replace a token by a new one of the same name; the old one is valid for `overlap_seconds` more."""
        token, text = tokens.rotate(name, (request or TokenRotate()).overlap_seconds)
        return NewToken(**asdict(token), token=text)

    @router.delete("/{name}", status_code=204)
    async def remove(name: str) -> None:
        """Delete a token. It is refused from now on."""
        tokens.remove(name)

    return router
