# SPDX-License-Identifier: Apache-2.0
"""A cluster and a daemon in memory, as far as the node agent speaks to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from lightkube.resources.core_v1 import Pod

from volant.contract.api_types import Vm, VmCreate, VmUpdate
from volant.errors import Conflict, NotFound
from volant.kubernetes.references import Found


class FakeRequests:
    """What is created in the cluster; `answer` makes the reply."""

    def __init__(self) -> None:
        self.created: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda made: made

    async def create(self, made: Any, *_: Any, **__: Any) -> Any:
        self.created.append(made)
        return self.answer(made)


class FakeCluster:
    def __init__(self) -> None:
        self.client = FakeRequests()
        self.statuses: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.found = Found()
        self.changes: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.listed: list[Any] = []
        self.watched: list[str] = []

    async def watch(
        self, kind: Any, on_listed: Callable[[list[Any]], None], **which: Any
    ) -> AsyncIterator[tuple[str, Any]]:
        self.watched.append(f"{kind.__name__} {which['namespace']}/{which['fields']['metadata.name']}")
        on_listed(self.listed)
        while True:
            yield await self.changes.get()

    async def find(self, pod: Pod) -> Found:
        return self.found

    async def tell_status(self, pod: Pod, status: dict[str, Any]) -> bool:
        self.statuses.append(status)
        return True

    async def remove(self, pod: Pod) -> None:
        assert pod.metadata is not None and pod.metadata.name
        self.removed.append(pod.metadata.name)


class FakeDaemon:
    """VMs that are healthy as soon as they are made; `failing` is raised by the next call that makes one."""

    def __init__(self) -> None:
        self.vms: dict[str, Vm] = {}
        self.acts: list[str] = []
        self.failing: BaseException | None = None
        self.lines: list[dict[str, str]] = []

    async def get_vm(self, name: str) -> Vm:
        if name not in self.vms:
            raise NotFound(f"there is no VM {name}")
        return self.vms[name]

    async def list_vms(self, *, label: list[str]) -> list[Vm]:
        pairs = [text.split("=", 1) for text in label]
        return [
            vm for vm in self.vms.values() if all(vm["labels"].get(name) == value for name, value in pairs)
        ]

    async def create_vm(self, request: VmCreate) -> Vm:
        name = request["name"]
        self.acts.append(f"create {name}")
        if self.failing is not None:
            failing, self.failing = self.failing, None
            raise failing
        if name in self.vms:
            raise Conflict(f"there is a VM {name}")
        self.vms[name] = make_vm(name=name, labels=request.get("labels", {}))
        return self.vms[name]

    async def wait(self, name: str, *_: Any) -> Vm:
        return await self.get_vm(name)

    async def start_vm(self, name: str) -> Vm:
        self.acts.append(f"start {name}")
        self.vms[name]["status"] = "running"
        return self.vms[name]

    async def stop_vm(self, name: str, *, timeout_seconds: float = 30, force: bool = False) -> Vm:
        self.acts.append(f"stop {name} {'force' if force else f'{timeout_seconds:g}'}")
        self.vms[name]["status"] = "stopped"
        return self.vms[name]

    async def restart_vm(self, name: str, *, timeout_seconds: float = 30) -> Vm:
        self.acts.append(f"restart {name} {timeout_seconds:g}")
        self.vms[name]["started_at"] = "2026-11-27T11:00:00.000Z"
        return self.vms[name]

    async def update_vm(self, name: str, request: VmUpdate) -> Vm:
        self.vms[name]["labels"] |= {key: value for key, value in request["labels"].items() if value}
        return self.vms[name]

    async def delete_vm(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        self.acts.append(f"delete {name}")
        del self.vms[name]

    async def get_plugin(self, reference: str) -> dict[str, Any]:
        return {"manifest": {"workload": {"port": 80}}}

    async def write_file(self, name: str, path: str, content: bytes, *, mode: int) -> None:
        self.acts.append(f"write {name} {path} {content.decode()} {mode:o}")

    async def get_vm_stats(self, name: str, *, guest: bool = True) -> dict[str, Any]:
        assert not guest, "a guest that hangs is not asked"
        await self.get_vm(name)
        return {"guest": None, "host_memory_bytes": 1 << 20, "host_cpu_seconds": 1.5}

    async def logs(self, name: str, **_: Any) -> AsyncIterator[dict[str, str]]:
        for line in self.lines:
            yield line


def make_vm(**changes: Any) -> Vm:
    vm = {
        "id": "7", "name": "web", "status": "running", "status_reason": "", "health": "healthy", "crash": None,
        "exit_code": None, "restarts": 0, "started_at": "2026-11-27T10:00:00.000Z", "agent": {"connected": True},
        "plugin": {"name": "web", "version": "1.0.0"}, "labels": {}, "ip": "127.127.0.9", "ports": [],
        "processes": [{"name": "workload", "state": "running", "restarts": 0}],
    }  # fmt: skip
    return cast("Vm", vm | changes)


def make_pod(
    spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **container: Any
) -> Pod:
    uid = "0f3d2b1a-1111-2222-3333-444455556666"
    whole = {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": uid,
            "labels": {"app": "web"},
            **(metadata or {}),
        },
        "spec": {"containers": [{"name": "web", "image": "web:1.0.0", **container}], **(spec or {})},
    }
    return read_pod(whole)


def read_pod(document: dict[str, Any]) -> Pod:
    return cast("Pod", Pod.from_dict(document))
