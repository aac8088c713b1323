# SPDX-License-Identifier: Apache-2.0
"""The SDK: what the API does, as Python calls. `Client` for plain programs, `AsyncClient` for asyncio.

    from volant.client import Client

    client = Client()
    vm = client.create_vm({"name": "web", "plugin": "nginx"})
    client.wait("web", "healthy")
    print(client.exec("web", ["nginx", "-v"])["stderr"])

Replies are dictionaries with the types of `volant.contract.api_types`; errors are those of `volant.errors`. Nothing of
the daemon's is needed: `pip install .` in a clone suffices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volant.client.asynchronous import AsyncClient
    from volant.client.client import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """On first use: volar's start-up pays for what it needs alone."""
    if name == "Client":
        from volant.client.client import Client

        return Client
    if name == "AsyncClient":
        from volant.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(name)
