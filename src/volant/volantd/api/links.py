# SPDX-License-Identifier: Apache-2.0
"""Links of the API's description (OpenAPI 3.1, Link Object): what may be asked of a thing that a reply names.

Generated clients show them, and the tests follow them: what was made is seen, changed, entered and removed.
"""

from __future__ import annotations

from typing import Any

# Operations that make something, and below which path it is known by the name that their reply has.
MAKERS = {
    "vms_create": "/api/v1/vms/{name}",
    "plugins_install": "/api/v1/plugins/{name}",
    "secrets_put": "/api/v1/secrets/{name}",
    "snapshots_create": "/api/v1/snapshots/{name}",
    "snapshots_take_in": "/api/v1/snapshots/{name}",
    "volumes_create": "/api/v1/volumes/{name}",
    "volumes_restore": "/api/v1/volumes/{name}",
    "networks_create": "/api/v1/networks/{name}",
    "deployments_create": "/api/v1/deployments/{name}",
    "tokens_create": "/api/v1/tokens/{name}",
}
NAME = "$response.body#/name"


def add_links(description: dict[str, Any]) -> None:
    """To each maker's successful reply, a link to each operation on what it made."""
    operations = {
        operation["operationId"]: (path, operation)
        for path, methods in description["paths"].items()
        for operation in methods.values()
    }
    for maker, place in MAKERS.items():
        links = {
            identity: {"operationId": identity, "parameters": {"name": NAME}}
            for identity, (path, _) in operations.items()
            if (path == place or path.startswith(f"{place}/")) and "/proxy/" not in path
        }
        for status, reply in operations[maker][1]["responses"].items():
            if status.startswith("2"):
                reply["links"] = links
