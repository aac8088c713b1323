# SPDX-License-Identifier: Apache-2.0
"""Every operation of the API as a call, with its types."""

from __future__ import annotations

import base64
import io
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volant import errors
from volant.client.connection import Connector
from volant.client.transport import Transport, encode_query, has_gone_away, quoted, read_error

if TYPE_CHECKING:
    from volant.client.running_command import RunningCommand
    from volant.contract.api_types import (
        Deployment,
        DeploymentCreate,
        DeploymentRevision,
        DeploymentUpdate,
        Event,
        ExecRequest,
        ExecResult,
        LogLine,
        Plugin,
        Secret,
        Snapshot,
        SystemInfo,
        Token,
        Vm,
        VmCreate,
        VmNetwork,
        VmStats,
        VmUpdate,
        Volume,
    )

__all__ = ["Client", "Condition", "encode_query", "has_gone_away", "quoted", "read_error"]

DEPLOYMENT_POLL_SECONDS = 0.2
Condition = Literal["running", "healthy", "stopped"]


class Client(Transport):
    """The API of the daemon at `address`: a socket's path or http://127.0.0.1:7777.

    None: the daemon that VOLANT_API_BASE names, with the token of VOLANT_TOKEN, else this user's own.
    """

    def __init__(
        self, address: str | None = None, token: str | None = None, *, connect: Connector | None = None
    ) -> None:
        if address is None:
            from volant.contract.paths import find_socket

            address = os.environ.get("VOLANT_API_BASE") or str(find_socket())
            token = token or os.environ.get("VOLANT_TOKEN")
        super().__init__(address, token, connect=connect)

    def get_vm(self, name: str) -> Vm:
        vm: Vm = self.get(f"/vms/{quoted(name)}")
        return vm

    def create_vm(self, request: VmCreate) -> Vm:
        vm: Vm = self.make("/vms", request, timeout_seconds=120)
        return vm

    def list_vms(
        self, *, status: str | None = None, plugin: str | None = None, health: str | None = None,
        label: Sequence[str] = (),
    ) -> list[Vm]:  # fmt: skip
        """Every VM, or those that are like this; of several labels (NAME=VALUE) all must match."""
        return self.get_all("/vms", status=status, plugin=plugin, health=health, label=label)

    def get_vm_stats(self, name: str, *, guest: bool = True) -> VmStats:
        """Without `guest` as the host sees it alone, at once."""
        found: VmStats = self.get(f"/vms/{quoted(name)}/stats", guest=None if guest else "false")
        return found

    def get_plugin(self, reference: str) -> Plugin:
        """A plugin by NAME (the newest enabled version) or NAME:VERSION."""
        name, _, version = reference.partition(":")
        plugin: Plugin = self.get(f"/plugins/{quoted(name)}", version=version)
        return plugin

    def list_plugins(self) -> list[Plugin]:
        return self.get_all("/plugins")

    def list_snapshots(self) -> list[Snapshot]:
        return self.get_all("/snapshots")

    def list_volumes(self) -> list[Volume]:
        return self.get_all("/volumes")

    def create_volume(self, name: str, size: str = "10G") -> Volume:
        """An empty volume; it takes what is written to it, not more."""
        volume: Volume = self.post("/volumes", {"name": name, "size": size}, timeout_seconds=120)
        return volume

    def delete_volume(self, name: str) -> None:
        """With all that is in it; Conflict while a VM has it."""
        self.delete(f"/volumes/{quoted(name)}")

    def list_networks(self) -> list[VmNetwork]:
        return self.get_all("/networks")

    def create_network(
        self, name: str, *, internal: bool = False, labels: Mapping[str, str] | None = None
    ) -> VmNetwork:
        """VMs reach each other where they share one; `internal`: and nothing beyond it."""
        network: VmNetwork = self.post(
            "/networks", {"name": name, "internal": internal, "labels": dict(labels or {})}
        )
        return network

    def delete_network(self, name: str) -> None:
        """Conflict while a VM is in it."""
        self.delete(f"/networks/{quoted(name)}")

    def list_tokens(self) -> list[Token]:
        return self.get_all("/tokens")

    def list_secrets(self) -> list[Secret]:
        return self.get_all("/secrets")

    def get_system_info(self) -> SystemInfo:
        found: SystemInfo = self.get("/system/info")
        return found

    # VMs

    def wait(self, name: str, condition: Condition = "healthy", timeout_seconds: float = 300) -> Vm:
        """The VM once it is `running`, `healthy` or `stopped`. GuestFailed where it is not so in time."""
        query = {"wait": condition, "timeout": timeout_seconds}
        vm: Vm = self.call("GET", f"/vms/{quoted(name)}", query=query, timeout_seconds=timeout_seconds + 30)
        if condition not in (vm["status"], vm["health"]):
            reason = vm["status_reason"] or vm["health_reason"]
            raise errors.GuestFailed(
                f"{name} is not {condition} but {vm['status']}, {vm['health']}", details=reason,
                resolution=f"volar vms get {name}; volar vms logs {name}",
            )  # fmt: skip
        return vm

    def update_vm(self, name: str, request: VmUpdate) -> Vm:
        """Change a VM; `pending` of the reply names what counts from its next start."""
        vm: Vm = self.call("PATCH", f"/vms/{quoted(name)}", body=request)
        return vm

    def start_vm(self, name: str) -> Vm:
        vm: Vm = self.post(f"/vms/{quoted(name)}/start", timeout_seconds=120)
        return vm

    def stop_vm(self, name: str, *, timeout_seconds: float = 30, force: bool = False) -> Vm:
        body = {"timeout_seconds": timeout_seconds, "force": force}
        vm: Vm = self.post(f"/vms/{quoted(name)}/stop", body, timeout_seconds=timeout_seconds + 60)
        return vm

    def restart_vm(self, name: str, *, timeout_seconds: float = 30) -> Vm:
        """Stop it, within `timeout_seconds`, and start it again."""
        body = {"timeout_seconds": timeout_seconds}
        vm: Vm = self.post(f"/vms/{quoted(name)}/restart", body, timeout_seconds=timeout_seconds + 150)
        return vm

    def delete_vm(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a VM and its disk, and with `volumes` those that were made with it. One that runs is stopped first,
        with `force` at once."""
        self.delete(f"/vms/{quoted(name)}", force=force, volumes=volumes)

    def fork_vm(self, name: str, names: Sequence[str]) -> list[Vm]:
        """Running copies of a VM that runs, which go on from this instant."""
        vms: list[Vm] = self.make(f"/vms/{quoted(name)}/fork", {"names": list(names)}, timeout_seconds=300)
        return vms

    # What reaches into a guest

    def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = "", working_dir: str = "",
        env: Mapping[str, str] | None = None, timeout_seconds: float = 60,
    ) -> ExecResult:  # fmt: skip
        """Run one command and return what it wrote. A failed command is a result, not an exception."""
        request: ExecRequest = {
            "command": list(command), "user": user, "working_dir": working_dir, "env": dict(env or {}),
            "stdin_base64": base64.b64encode(stdin).decode(), "timeout_seconds": timeout_seconds,
        }  # fmt: skip
        result: ExecResult = self.post(
            f"/vms/{quoted(name)}/exec", request, timeout_seconds=timeout_seconds + 30
        )
        return result

    @contextmanager
    def open_exec(
        self, name: str, command: Sequence[str], *, user: str = "", working_dir: str = "",
        env: Mapping[str, str] | None = None, terminal: tuple[int, int] | None = None,
    ) -> Iterator[RunningCommand]:  # fmt: skip
        """Run one command and talk with it meanwhile; one that still runs at the end of the context is hung up on.

        `terminal`: give it one, of so many columns and rows.
        """
        from volant.client.running_command import RunningCommand
        from volant.client.streams import open_stream

        columns, rows = terminal or (None, None)
        query = {
            "command": list(command), "user": user, "working_dir": working_dir,
            "env": [f"{variable}={value}" for variable, value in (env or {}).items()],
            "terminal": terminal is not None, "columns": columns, "rows": rows,
        }  # fmt: skip
        with open_stream(self, f"/vms/{quoted(name)}/exec/stream{encode_query(query)}") as stream:
            yield RunningCommand(stream, f"{command[0]} in {name}")

    @contextmanager
    def open_workload(
        self, name: str, *, terminal: tuple[int, int] | None = None
    ) -> Iterator[RunningCommand]:
        """The workload's own input and output, of a VM that was made with `stdin` or `tty`. It runs on afterwards.

        `terminal`: columns and rows that its terminal gets.
        """
        from volant.client.running_command import RunningCommand
        from volant.client.streams import open_stream

        columns, rows = terminal or (None, None)
        query = encode_query({"columns": columns, "rows": rows})
        with open_stream(self, f"/vms/{quoted(name)}/attach{query}") as stream:
            yield RunningCommand(stream, f"the workload of {name}")

    def logs(
        self, name: str, *, follow: bool = False, process: str | None = None, since: str | None = None,
        tail: int | None = None,
    ) -> Iterator[LogLine]:  # fmt: skip
        """Lines that processes wrote; with `follow` also those that come, until the VM ends."""
        from volant.client.log_lines import follow_lines, read_lines

        read = follow_lines if follow else read_lines
        return read(self, name, process=process, since=since, tail=tail)

    def read_file(self, name: str, path: str, *, most_bytes: int | None = None) -> bytes:
        """A file of the guest. TooLarge where it has more than `most_bytes`."""
        query = {"path": path}
        with self.open("GET", f"/vms/{quoted(name)}/files", query=query, timeout_seconds=None) as reply:
            content = reply.read() if most_bytes is None else reply.read(most_bytes + 1)
        if most_bytes is not None and len(content) > most_bytes:
            raise errors.TooLarge(f"cannot read {path} of VM {name}: it has more than {most_bytes} bytes")
        return content

    def write_file(self, name: str, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file of the guest: there whole or not at all. Its folder must exist."""
        query, target = {"path": path, "mode": mode}, f"/vms/{quoted(name)}/files"
        stream, length = io.BytesIO(content), len(content)
        self.call("PUT", target, query=query, upload=stream, upload_length=length, timeout_seconds=None)

    @contextmanager
    def forward_port(self, name: str, port: int, *, local_port: int = 0) -> Iterator[int]:
        """A TCP port of the guest on 127.0.0.1 while the context is open; yields the local port."""
        from volant.client.streams import serve_forward

        with socket.create_server(("127.0.0.1", local_port)) as listener:
            path = f"/vms/{quoted(name)}/ports/{port}/stream"

            def serve() -> None:
                with suppress(OSError):  # the listener ends with the context
                    serve_forward(self, path, listener, lambda problem: None)

            serving = threading.Thread(target=serve, daemon=True)
            serving.start()
            try:
                yield int(listener.getsockname()[1])
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                serving.join()

    @contextmanager
    def open_port(self, name: str, port: int) -> Iterator[socket.socket]:
        """A connection to a TCP port of the guest while the context is open; raises where nobody answers there."""
        from volant.client.streams import carry, open_stream

        ours, theirs = socket.socketpair()
        with theirs, ours:
            with open_stream(self, f"/vms/{quoted(name)}/ports/{port}/stream") as stream:
                carrying = threading.Thread(target=carry, args=(stream, theirs), daemon=True)
                carrying.start()
                try:
                    yield ours
                finally:
                    with suppress(OSError):
                        theirs.shutdown(socket.SHUT_RDWR)
            carrying.join()

    # Snapshots

    def create_snapshot(self, vm: str, name: str | None = None) -> Snapshot:
        found: Snapshot = self.make(f"/vms/{quoted(vm)}/snapshots", {"name": name}, timeout_seconds=300)
        return found

    def delete_snapshot(self, name: str) -> None:
        self.delete(f"/snapshots/{quoted(name)}")

    # Deployments

    def list_deployments(self) -> list[Deployment]:
        return self.get_all("/deployments")

    def get_deployment(self, name: str) -> Deployment:
        deployment: Deployment = self.get(f"/deployments/{quoted(name)}")
        return deployment

    def create_deployment(self, request: DeploymentCreate) -> Deployment:
        """Several VMs of a plugin; `wait_deployment` waits for them."""
        deployment: Deployment = self.make("/deployments", request)
        return deployment

    def update_deployment(self, name: str, request: DeploymentUpdate) -> Deployment:
        """Scale it, or have its VMs replaced by others; what is left out stays as it is."""
        deployment: Deployment = self.call("PATCH", f"/deployments/{quoted(name)}", body=request)
        return deployment

    def roll_back_deployment(self, name: str, revision: int | None = None) -> Deployment:
        """To that revision, or to the one before."""
        deployment: Deployment = self.post(f"/deployments/{quoted(name)}/rollback", {"revision": revision})
        return deployment

    def list_revisions(self, name: str) -> list[DeploymentRevision]:
        """What a deployment was, oldest first."""
        return self.get_all(f"/deployments/{quoted(name)}/revisions")

    def wait_deployment(self, name: str, timeout_seconds: float = 600) -> Deployment:
        """The deployment once its VMs are ready. GuestFailed where they are not in time, or an update was undone."""
        deadline = time.monotonic() + timeout_seconds
        while (deployment := self.get_deployment(name))["status"] != "ready":
            is_late = time.monotonic() > deadline
            if is_late or deployment["status"] in ("degraded", "rolled-back"):
                raise errors.GuestFailed(
                    f"{name} is {deployment['status']}: {deployment['ready']} of {deployment['replicas']} VMs"
                    " are ready",
                    details=deployment["reason"], resolution=f"volar deployments get {name}",
                )  # fmt: skip
            time.sleep(DEPLOYMENT_POLL_SECONDS)
        return deployment

    def delete_deployment(self, name: str) -> None:
        """With its VMs, which are gone then; volumes stay."""
        self.call("DELETE", f"/deployments/{quoted(name)}", timeout_seconds=180)

    # Plugins and secrets

    def install_plugin(self, path: Path) -> Plugin:
        """A file, with the signature that lies beside it (FILE.sigstore.json)."""
        from volant.contract.plugin_evidence import find_bundle, write_line

        bundle = find_bundle(path)
        evidence = write_line(bundles=[bundle]) if bundle else b""
        with path.open("rb") as stream:
            chunks = iter(lambda: stream.read(1 << 20), b"")
            return self.upload_plugin(chunks, path.stat().st_size, evidence)

    def upload_plugin(self, archive: Iterable[bytes], length: int, evidence: bytes = b"") -> Plugin:
        """`length` bytes; `evidence` is what the daemon may trust it for, as `contract.plugin_evidence` writes it."""
        from volant.contract.plugin_evidence import CONTENT_TYPE

        plugin: Plugin = self.call(
            "POST", "/plugins", upload=itertools.chain([evidence], archive), upload_length=len(evidence) + length,
            upload_type=CONTENT_TYPE if evidence else "application/gzip", timeout_seconds=None,
        )  # fmt: skip
        return plugin

    def remove_plugin(self, reference: str) -> None:
        name, _, version = reference.partition(":")
        self.delete(f"/plugins/{quoted(name)}", version=version)

    def set_secret(self, name: str, value: bytes) -> Secret:
        body = {"value_base64": base64.b64encode(value).decode()}
        secret: Secret = self.call("PUT", f"/secrets/{quoted(name)}", body=body)
        return secret

    def delete_secret(self, name: str) -> None:
        self.delete(f"/secrets/{quoted(name)}")

    # Events

    def events(self, *, vm: str = "", follow: bool = False) -> Iterator[Event]:
        """What happened to VMs, oldest first; with `follow` what happens from now on."""
        from volant.client.event_stream import EventReader

        query = {"vm": vm, "follow": follow}
        with self.open("GET", "/events/vms", query=query, timeout_seconds=None) as reply:
            yield from EventReader().read(reply)
