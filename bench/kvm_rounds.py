# SPDX-License-Identifier: Apache-2.0
"""What `bench kvm` runs inside the machine with KVM: `python3 -m bench.kvm_rounds STATE INIT ROUNDS`.

Everything is one process over the daemon's API: the programs of people would be emulated, and cost more than the VMs
that are measured; and it asks as little as it can. INIT is bare_init.c for this disk. Prints one JSON object: what each
start took, and what was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.fork_by_hand import HandFork
from bench.kvm_by_hand import PORT, MachineByHand, write_bare_initrd
from bench.processor_time import find_daemon, find_spent_seconds, read_host_seconds, read_process
from volant.client import Client
from volant.errors import NotFound, VolantError
from volant.process import find_tool
from volant.volar.timeline import describe_boot

PAGE_SECONDS = 300
PATIENT_AFTER_SECONDS = 60
LOOK_SECONDS = 5.0
MOST_LOST = 4
losses: list[str] = []


class Lost(Exception):
    """An emulated processor loses a guest now and then while it boots, mostly to a reset that nobody asked for; it is
    then started once more by the daemon, which is not what is measured. How many is told with the result."""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the page, and of processors until then: the daemon's, that with its helpers', QEMU's, the guest's."""

    page: float
    daemon: float
    host: float
    machine: float
    guest: float


def seconds_to_page(find_url: Callable[[], str], is_lost: Callable[[], bool]) -> float:
    began = looked = time.perf_counter()
    while (now := time.perf_counter()) - began < PAGE_SECONDS:
        # Before a guest has its address a connection is lost; on a busy machine its answer takes longer than that.
        patience_seconds = 0.5 if now - began < PATIENT_AFTER_SECONDS else 20
        if url := find_url():
            with (
                contextlib.suppress(Exception),
                urllib.request.urlopen(url, timeout=patience_seconds) as reply,
            ):
                if reply.status == 200:
                    return time.perf_counter() - began
        if now - looked > LOOK_SECONDS:
            looked = now
            if is_lost():
                raise Lost("it has ended")
        time.sleep(0.05)
    raise Lost(f"no page after {PAGE_SECONDS} s")


def try_again(act: Callable[[], Start]) -> Start:
    for _ in range(MOST_LOST):
        try:
            return act()
        except Lost as lost:
            losses.append(str(lost))
            print(f"lost: {lost}", file=sys.stderr, flush=True)
    raise SystemExit(f"{MOST_LOST} guests were lost, one after the other")


class Rounds:
    def __init__(self, state: Path) -> None:
        socket = state / "run" / "volantd.sock"
        self.client = Client(str(socket))
        self.daemon = find_daemon(socket)
        # Where the last start of each VM got when.
        self.steps: dict[str, str] = {}

    def measure(
        self, name: str, ask: Callable[[], str], *, keeps: bool = False, started_from: str = "boot"
    ) -> Start:
        """From the request to the page; the VM is gone again. It must have come to be in the way that is measured.
        `ask` returns its address once it has been started, before which there is no page."""
        urls: list[str] = []

        def try_to_ask() -> None:
            try:
                urls.append(ask())
            except VolantError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)

        def act() -> Start:
            urls.clear()
            asking, is_kept = threading.Thread(target=try_to_ask), False
            before = read_host_seconds(self.daemon)
            asking.start()

            def is_lost() -> bool:
                if asking.is_alive():
                    return False
                with contextlib.suppress(NotFound):
                    return self.client.get_vm(name)["status"] == "failed"
                return True  # refused

            try:
                seconds = seconds_to_page(lambda: urls[0] if urls else "", is_lost)
                after = read_host_seconds(self.daemon)
                asking.join()
                vm = self.client.get_vm(name)
                if vm["restarts"] or vm["started_from"] != started_from:
                    raise Lost(f"{name} came from {vm['started_from']}, not from {started_from} at once")
                if vm["hypervisor"] is None or vm["hypervisor"]["pid"] is None:
                    raise Lost(f"{name} has ended")
                machine = read_process(vm["hypervisor"]["pid"])
                self.steps[name] = describe_boot(self.client.get(f"/vms/{name}/boot"))
                is_kept = keeps
            finally:
                asking.join()
                if not is_kept:
                    with contextlib.suppress(NotFound):
                        self.client.delete_vm(name, force=True)
            own = after[self.daemon] - before[self.daemon]
            return Start(seconds, own, find_spent_seconds(before, after), machine.own, machine.guest)

        return try_again(act)

    def create(self, name: str, *, keeps: bool = False, started_from: str = "boot", **wanted: Any) -> Start:
        request: Any = {"name": name, "plugin": "web", "network": "user", **wanted}
        return self.measure(
            name,
            lambda: str(self.client.create_vm(request)["url"]),
            keeps=keeps,
            started_from=started_from,
        )

    def fork(self) -> Start:
        """Of a VM that runs. It stands still otherwise: where guests are nested in an emulated processor, each that
        runs beside another makes both many times slower."""
        self.client.post("/vms/original/unpause")
        try:
            return self.measure(
                "copy",
                lambda: str(self.client.fork_vm("original", ["copy"])[0]["url"]),
                started_from="snapshot",
            )
        finally:
            self.pause_original()

    def pause_original(self) -> None:
        while (vm := self.client.get_vm("original"))["health"] != "healthy" or vm["status"] != "running":
            time.sleep(0.5)
        self.client.post("/vms/original/pause")

    def wait_for_template(self) -> None:
        for _ in range(600):
            if self.client.get("/templates"):
                return
            time.sleep(0.5)
        raise SystemExit("no template after 300 s")


def measure_by_hand(begin: Callable[[], subprocess.Popen[bytes]], prepare: Callable[[], None]) -> Start:
    def act() -> Start:
        prepare()
        began = time.perf_counter()
        with begin() as process:
            begun = time.perf_counter() - began
            try:
                url = f"http://127.0.0.1:{PORT}/"
                seconds = begun + seconds_to_page(lambda: url, partial(has_ended, process))
                machine = read_process(process.pid)
            finally:
                process.kill()
        return Start(seconds, 0.0, 0.0, machine.own, machine.guest)

    return try_again(act)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def copy_by_hand(machine: MachineByHand, folder: Path) -> HandFork:
    """Of a bare machine that has given its page."""
    for _ in range(MOST_LOST):
        shutil.rmtree(folder, ignore_errors=True)
        machine.prepare()
        process = machine.start()
        try:
            seconds_to_page(lambda: f"http://127.0.0.1:{PORT}/", partial(has_ended, process))
            return HandFork(process, folder)
        except Lost as lost:
            losses.append(str(lost))
        finally:
            process.kill()
            process.wait()
    raise SystemExit(f"{MOST_LOST} guests were lost, one after the other")


def main(state: str, init: str, count: str) -> None:
    rounds = Rounds(Path(state))
    rounds.create("first", cold=True)  # fills caches
    rounds.create("original", keeps=True, cold=True)
    vm: Any = rounds.client.get_vm("original")
    alone, bare = (MachineByHand(vm, Path(f"/tmp/{name}")) for name in ("alone", "bare"))
    write_bare_initrd(bare.initrd, Path(init), Path(state) / "cache" / "kernels")
    rounds.pause_original()
    rounds.wait_for_template()  # which its start has begun
    bare_copy = copy_by_hand(bare, Path("/tmp/by-hand"))
    kinds: dict[str, Callable[[], Start]] = {
        "bare": lambda: measure_by_hand(bare.start, bare.prepare),
        "alone": lambda: measure_by_hand(alone.start, alone.prepare),
        "bare-fork": lambda: measure_by_hand(bare_copy.begin, lambda: None),
        "cold": lambda: rounds.create("cold", cold=True),
        "warm": lambda: rounds.create("warm", started_from="template"),
        "fork": rounds.fork,
    }
    if find_tool("cloud-hypervisor") is not None and Path("/sys/class/net/volant0").exists():
        kinds["qemu-bridged"] = lambda: rounds.create("qb", cold=True, network="bridged")
        kinds["ch-bridged"] = lambda: rounds.create(
            "cb", cold=True, network="bridged", hypervisor="cloud-hypervisor"
        )
    starts: dict[str, list[dict[str, float]]] = {}
    for _ in range(int(count)):
        for kind, act in kinds.items():
            start = act()
            starts.setdefault(kind, []).append(asdict(start))
            print(f"{kind} {start}", file=sys.stderr, flush=True)
    rounds.client.post("/vms/original/unpause")
    rounds.client.delete_vm("original", force=True)
    print(json.dumps({"starts": starts, "steps": rounds.steps, "lost": losses}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    main(*sys.argv[1:])
