# SPDX-License-Identifier: Apache-2.0
"""What a scoped token may ask for: one table of all routes. What is not in it is for administrators.

read      sees everything that is no secret, and changes nothing
vm:NAME   sees and enters one VM, starts and stops it; what costs the host more, or makes others, is not its own
admin     everything, as whoever reaches the UNIX socket
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from volant.errors import NotPermitted
from volant.volantd.api.errors import make_reply

ADMIN, READ, VM_PREFIX = "admin", "read", "vm:"


class Need(Enum):
    OPEN = auto()
    """Whoever asks."""
    READ = auto()
    """"read"."""
    SEE_VM = auto()
    """"read", and the token of the VM that {name} is."""
    USE_VM = auto()
    """The token of the VM that {name} is."""
    ADMIN = auto()


_V1 = "/api/v1"
RULES: Mapping[str, Need] = {
    "GET /healthz": Need.OPEN,
    "GET /kestrel/latest/linux-{architecture}": Need.OPEN,
    "GET /openapi.json": Need.READ,
    "GET /metrics": Need.READ,
    f"GET {_V1}/system/info": Need.READ,
    f"GET {_V1}/system/audit": Need.ADMIN,
    f"GET {_V1}/system/backup": Need.ADMIN,
    f"POST {_V1}/system/restore": Need.ADMIN,
    f"GET {_V1}/system/policy": Need.READ,
    f"PUT {_V1}/system/policy": Need.ADMIN,
    f"DELETE {_V1}/system/policy": Need.ADMIN,
    f"GET {_V1}/system/doctor": Need.READ,
    f"GET {_V1}/system/kernels": Need.READ,
    f"POST {_V1}/dashboard/links": Need.ADMIN,
    f"GET {_V1}/events/vms": Need.READ,
    f"GET {_V1}/plugins": Need.READ,
    f"POST {_V1}/plugins": Need.ADMIN,
    f"GET {_V1}/plugins/{{name}}": Need.READ,
    f"GET {_V1}/plugins/{{name}}/archive": Need.ADMIN,
    f"GET {_V1}/plugins/{{name}}/boot-files": Need.ADMIN,
    f"DELETE {_V1}/plugins/{{name}}": Need.ADMIN,
    f"POST {_V1}/plugins/{{name}}/enable": Need.ADMIN,
    f"POST {_V1}/plugins/{{name}}/disable": Need.ADMIN,
    f"GET {_V1}/secrets": Need.READ,
    f"GET {_V1}/secrets/{{name}}": Need.READ,
    f"PUT {_V1}/secrets/{{name}}": Need.ADMIN,
    f"DELETE {_V1}/secrets/{{name}}": Need.ADMIN,
    f"GET {_V1}/templates": Need.READ,
    f"DELETE {_V1}/templates": Need.ADMIN,
    f"GET {_V1}/snapshots": Need.READ,
    f"GET {_V1}/snapshots/{{name}}": Need.READ,
    f"GET {_V1}/snapshots/{{name}}/archive": Need.ADMIN,
    f"POST {_V1}/snapshots/import": Need.ADMIN,
    f"DELETE {_V1}/snapshots/{{name}}": Need.ADMIN,
    f"GET {_V1}/volumes": Need.READ,
    f"POST {_V1}/volumes": Need.ADMIN,
    f"GET {_V1}/volumes/{{name}}": Need.READ,
    f"DELETE {_V1}/volumes/{{name}}": Need.ADMIN,
    f"POST {_V1}/volumes/{{name}}/resize": Need.ADMIN,
    f"GET {_V1}/volumes/{{name}}/archive": Need.ADMIN,
    f"POST {_V1}/volumes/restore": Need.ADMIN,
    f"GET {_V1}/networks": Need.READ,
    f"POST {_V1}/networks": Need.ADMIN,
    f"GET {_V1}/networks/{{name}}": Need.READ,
    f"DELETE {_V1}/networks/{{name}}": Need.ADMIN,
    f"GET {_V1}/deployments": Need.READ,
    f"POST {_V1}/deployments": Need.ADMIN,
    f"GET {_V1}/deployments/{{name}}": Need.READ,
    f"PATCH {_V1}/deployments/{{name}}": Need.ADMIN,
    f"DELETE {_V1}/deployments/{{name}}": Need.ADMIN,
    f"GET {_V1}/deployments/{{name}}/revisions": Need.READ,
    f"POST {_V1}/deployments/{{name}}/rollback": Need.ADMIN,
    f"GET {_V1}/tokens": Need.ADMIN,
    f"POST {_V1}/tokens": Need.ADMIN,
    f"DELETE {_V1}/tokens/{{name}}": Need.ADMIN,
    f"POST {_V1}/tokens/{{name}}/rotate": Need.ADMIN,
    f"GET {_V1}/vms": Need.READ,
    f"POST {_V1}/vms": Need.ADMIN,
    f"GET {_V1}/vms/{{name}}": Need.SEE_VM,
    f"PATCH {_V1}/vms/{{name}}": Need.ADMIN,
    f"GET {_V1}/vms/{{name}}/history": Need.SEE_VM,
    f"GET {_V1}/vms/{{name}}/boot": Need.SEE_VM,
    f"GET {_V1}/vms/{{name}}/boot-files": Need.ADMIN,
    f"DELETE {_V1}/vms/{{name}}": Need.ADMIN,
    f"POST {_V1}/vms/{{name}}/start": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/stop": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/restart": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/pause": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/unpause": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/suspend": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/resume": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/restore": Need.ADMIN,
    f"GET {_V1}/vms/{{name}}/logs": Need.SEE_VM,
    f"GET {_V1}/vms/{{name}}/console/log": Need.SEE_VM,
    f"GET {_V1}/vms/{{name}}/stats": Need.SEE_VM,
    f"POST {_V1}/vms/{{name}}/exec": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/exec/stream": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/attach": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/ssh": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/ssh/signature": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/ssh/stream": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/ports/{{port}}/stream": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/console": Need.USE_VM,
    f"WEBSOCKET {_V1}/vms/{{name}}/shell": Need.USE_VM,
    f"GET {_V1}/vms/{{name}}/files": Need.USE_VM,
    f"PUT {_V1}/vms/{{name}}/files": Need.USE_VM,
    f"ANY {_V1}/vms/{{name}}/proxy/{{path:path}}": Need.USE_VM,
    f"POST {_V1}/vms/{{name}}/snapshots": Need.ADMIN,
    f"POST {_V1}/vms/{{name}}/fork": Need.ADMIN,
}


@dataclass(frozen=True, slots=True)
class Rule:
    method: str
    path: re.Pattern[str]
    need: Need


@functools.cache
def _compile() -> tuple[Rule, ...]:
    found = []
    for rule, need in RULES.items():
        method, _, path = rule.partition(" ")
        found.append(Rule(method, compile_path(path)[0], need))
    return tuple(found)


def may_ask(rights: str, method: str, path: str) -> bool:
    """Whether a token with these rights may ask for this; HEAD as GET."""
    if rights == ADMIN:
        return True
    method = "GET" if method == "HEAD" else method
    for rule in _compile():
        if rule.method in (method, "ANY") and (match := rule.path.fullmatch(path)) is not None:
            return _suffices(rights, rule.need, match.groupdict().get("name", ""))
    return False


def _suffices(rights: str, need: Need, vm: str) -> bool:
    match need:
        case Need.OPEN:
            return True
        case Need.READ:
            return rights == READ
        case Need.SEE_VM:
            return rights in (READ, f"{VM_PREFIX}{vm}")
        case Need.USE_VM:
            return rights == f"{VM_PREFIX}{vm}"
        case Need.ADMIN:
            return False


class Permissions:
    """Wraps the application behind the gate, which says whose request it is."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rights = scope["identity"].rights if scope["type"] in ("http", "websocket") else ADMIN
        method = scope.get("method", "WEBSOCKET")
        if may_ask(rights, method, scope.get("path", "")):
            await self._application(scope, receive, send)
            return
        problem = NotPermitted(
            f"cannot do this with a token of scope {rights}: {method} {scope['path']}",
            resolution="use a token with a wider scope: volar tokens create NAME --scope admin",
        )
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(make_reply(problem))
        else:
            await make_reply(problem)(scope, receive, send)
