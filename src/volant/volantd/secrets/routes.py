# SPDX-License-Identifier: Apache-2.0
"""/secrets: values go in and never come out again."""

from __future__ import annotations

import base64
from dataclasses import asdict

from volant.contract.api import Secret
from volant.contract.request_values import Base64Text, RequestModel
from volant.volantd.api.router import Router
from volant.volantd.secrets.store import SecretStore


class SecretValue(RequestModel):
    value_base64: Base64Text


def make_router(secrets: SecretStore) -> Router:
    router = Router("/secrets", tags=["secrets"])

    @router.get("")
    async def list_secrets() -> list[Secret]:
        """List names, sizes and users of secrets; never their values."""
        return [Secret(**asdict(secret)) for secret in secrets.list_all()]

    @router.get("/{name}")
    async def get(name: str) -> Secret:
        """Show a secret's name, size and users; never its value."""
        return Secret(**asdict(secrets.get(name)))

    @router.put("/{name}")
    async def put(name: str, request: SecretValue) -> Secret:
        """Set or replace a secret. VMs get the new value the next time they ask."""
        return Secret(**asdict(secrets.set(name, base64.b64decode(request.value_base64))))

    @router.delete("/{name}", status_code=204)
    async def remove(name: str) -> None:
        """Remove a secret; 409 if a VM has it attached."""
        secrets.remove(name)

    return router
