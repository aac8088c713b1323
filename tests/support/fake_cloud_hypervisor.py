# SPDX-License-Identifier: Apache-2.0
"""A program that speaks Cloud Hypervisor's documented API and has no machine: `cloud-hypervisor` in unit tests.

Standard library only, since it runs confined. It keeps the states of docs/api.md and the codes of the OpenAPI
description: 204, 404 for a VM that is not created, 405 in the wrong state, 500 with a list of causes. Its guest listens
on vsock port 1024 and sends back what it is sent; the first word of the kernel's command line that begins with `fake=`
chooses what else it does: `poweroff`, `reboot`, `panic`, `answer` (says on its console what it heard there; like the
real one it listens where standard input is a terminal alone), `call` (connects to CID 2, port 9000, and writes what it
is sent on its console), `full` (there is no room for its memory). What it was given is in `fake.json` beside its
sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CREATED, RUNNING, PAUSED = "Created", "Running", "Paused"


class Refused(Exception):
    def __init__(self, status: int, *causes: str) -> None:
        super().__init__(status)
        self.status, self.causes = status, causes


class Vmm:
    def __init__(self, arguments: dict[str, str]) -> None:
        self.state = ""
        self.config: dict[str, Any] = {}
        self.events = int(arguments["event-monitor"].removeprefix("fd="))
        self.folder = Path(arguments["api-socket"].removeprefix("path=")).parent
        self.heard: list[str] = []
        self.afterwards = list[Callable[[], None]]()
        """What its guest's own system does: some time after whoever asked has its answer."""

    def answer(self, method: str, act: str, document: Any, descriptors: list[int]) -> Any:
        self.heard.append(f"{method} {act}")
        match method, act:
            case "GET", "vmm.ping":
                return {"version": "v54.0.0", "pid": os.getpid()}
            case "GET", "vm.info":
                self.need(CREATED, RUNNING, PAUSED)
                return {"config": self.config, "state": self.state}
            case "PUT", "vm.create":
                if self.state:
                    raise Refused(500, "Error from API", "VM is already created")
                for disk in document["disks"]:
                    if not os.path.exists(disk["path"]):
                        raise Refused(500, "Error from API", f"cannot open {disk['path']}")
                self.config, self.state = document, CREATED
            case "PUT", "vm.add-net":
                self.need(CREATED)
                if len(descriptors) != 1:
                    raise Refused(400, "a NIC needs its tap device")
                self.config.setdefault("net", []).append(document)
            case "PUT", "vm.boot":
                self.need(CREATED)
                self.boot()
            case "PUT", "vm.pause":
                self.need(RUNNING)
                self.state = PAUSED
            case "PUT", "vm.resume":
                self.need(PAUSED)
                self.state = RUNNING
            case "PUT", "vm.resize":
                self.need(RUNNING, PAUSED)
                self.resize(document)
            case "PUT", "vm.snapshot":
                self.need(PAUSED)
                self.save(Path(document["destination_url"].removeprefix("file://")))
            case "PUT", "vm.restore":
                if self.state:
                    raise Refused(500, "Error from API", "VM is already created")
                self.restore(Path(document["source_url"].removeprefix("file://")), document, descriptors)
            case "PUT", "vm.power-button":
                self.need(RUNNING)
                self.end()
            case _:
                raise Refused(404, f"no such call: {act}")
        return None

    def need(self, *states: str) -> None:
        if not self.state:
            raise Refused(404, "Error from API", "VM is not created")
        if self.state not in states:
            raise Refused(405, "Error from API", f"VM is {self.state}")

    def tell(self, event: str) -> None:
        document = {"timestamp": {"secs": 0, "nanos": 1}, "source": "vm", "event": event, "properties": None}
        os.write(self.events, json.dumps(document, indent=2).encode() + b"\n\n")

    def resize(self, document: dict[str, int]) -> None:
        """A machine is told by its configuration what it has (vm.rs there)."""
        cpus, memory = self.config["cpus"], self.config["memory"]
        if document.get("desired_vcpus", 0) > cpus["max_vcpus"]:
            raise Refused(500, "Error from API", "Desired vCPUs exceed maximum")
        if document.get("desired_ram", 0) > memory["size"] + memory["hotplug_size"]:
            raise Refused(500, "Error from API", "Insufficient space for hotplug")
        cpus["boot_vcpus"] = document.get("desired_vcpus", cpus["boot_vcpus"])
        memory["size"] = document.get("desired_ram", memory["size"])

    def save(self, folder: Path) -> None:
        if "fake=full" in self.config["payload"]["cmdline"]:
            (folder / "memory-ranges").write_bytes(b"a part")
            raise Refused(500, "Error from API", "No space left on device (os error 28)")
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "state.json").write_text(json.dumps({"devices": self.list_ids()}))
        (folder / "memory-ranges").write_bytes(b"pages of " + self.config["vsock"]["socket"].encode())

    def restore(self, folder: Path, request: dict[str, Any], descriptors: list[int]) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        known = json.loads((folder / "state.json").read_text())["devices"]
        wanted = [net["id"] for net in self.config.get("net", []) if "fds" in net]
        given = [net["id"] for net in request.get("net_fds", []) for _ in range(net["num_fds"])]
        if known != self.list_ids() or wanted != given or len(descriptors) != len(given):
            raise Refused(500, "Error from API", f"devices are {self.list_ids()}, and were {known}")
        self.memory = (folder / "memory-ranges").read_bytes()
        os.write(1, b"woke with " + self.memory + b"\r\n")
        self.open_vsock()
        self.state = PAUSED

    def list_ids(self) -> list[str]:
        devices = [*self.config["disks"], *self.config.get("net", []), self.config["vsock"]]
        return [device["id"] for device in devices]

    def open_vsock(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.config["vsock"]["socket"])
        listener.listen()
        threading.Thread(target=self.serve_vsock, args=(listener,), daemon=True).start()

    def boot(self) -> None:
        self.tell("booting")
        self.state = RUNNING
        os.write(1, b"Linux version 6.1.0-fake\r\n")
        self.open_vsock()
        self.tell("booted")
        words = self.config["payload"]["cmdline"].split()
        choice = next((word.removeprefix("fake=") for word in words if word.startswith("fake=")), "")
        if choice == "poweroff":
            self.end()
        elif choice == "panic":
            os.write(1, b"[    1.2] Kernel panic - not syncing: Attempted to kill init!\r\n")
            self.reset()
        elif choice == "reboot":
            self.reset()
        elif choice == "answer" and os.isatty(0):
            threading.Thread(target=self.answer_console, daemon=True).start()
        elif choice == "call":
            path = self.config["vsock"]["socket"] + "_9000"
            threading.Thread(target=self.call_host, args=(path,), daemon=True).start()

    def answer_console(self) -> None:
        line = b""
        while byte := os.read(0, 1):
            line += byte
            if byte in b"\r\n":
                os.write(1, b"heard " + line.strip() + b"\r\n")
                line = b""

    def call_host(self, path: str) -> None:
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
                stream.connect(path)
                heard = b"".join(iter(lambda: stream.recv(4096), b""))
                os.write(1, b"heard " + heard + b"\r\n")
                return

    def serve_vsock(self, listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            line = stream.makefile("rb").readline()
            if line != b"CONNECT 1024\n":
                stream.close()
                continue
            stream.sendall(b"OK 1073741824\nand more")
            while data := stream.recv(4096):
                stream.sendall(data)
            stream.close()

    def reset(self) -> None:
        self.afterwards.append(lambda: self.tell("rebooting"))

    def end(self) -> None:
        self.afterwards.append(self.leave)

    def leave(self) -> None:
        self.tell("shutdown")
        os._exit(0)


def serve(vmm: Vmm, path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        stream, _ = listener.accept()
        with contextlib.suppress(OSError), stream:
            answer_request(vmm, stream)
        while vmm.afterwards:
            threading.Timer(0.1, vmm.afterwards.pop()).start()


def answer_request(vmm: Vmm, stream: socket.socket) -> None:
    content, descriptors = b"", list[int]()
    while b"\r\n\r\n" not in content:
        data, received, _, _ = socket.recv_fds(stream, 65536, 8)
        content, descriptors = content + data, descriptors + received
    head, _, body = content.partition(b"\r\n\r\n")
    request, *headers = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
    while len(body) < int(fields.get("content-length", 0)):
        body += stream.recv(65536)
    method, target, _ = request.split()
    try:
        document = json.loads(body) if body else None
        result = vmm.answer(method, target.removeprefix("/api/v1/"), document, descriptors)
        told = json.dumps({"heard": vmm.heard, "config": vmm.config})
        (vmm.folder / "fake.json").write_text(told)
        status, answer = ("200 OK", json.dumps(result)) if result is not None else ("204 No Content", "")
    except Refused as refused:
        status, answer = f"{refused.status} Refused", json.dumps(refused.causes)
    for descriptor in descriptors:
        os.close(descriptor)
    length = f"Content-Length: {len(answer)}\r\n" if answer else ""
    stream.sendall(f"HTTP/1.1 {status}\r\nServer: fake\r\n{length}\r\n{answer}".encode())


def main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("cloud-hypervisor v54.0.0")
        return
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if "--kernel" in options:  # the probe's guest
        print("Failed to execute /init (error -8)", flush=True)
        return
    named = {name.removeprefix("--"): value for name, value in options.items()}
    serve(Vmm(named), named["api-socket"].removeprefix("path="))


if __name__ == "__main__":
    main(sys.argv[1:])
