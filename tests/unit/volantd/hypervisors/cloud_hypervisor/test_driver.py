# SPDX-License-Identifier: Apache-2.0
"""The driver with a program that speaks the documented API; with the real one it is tested where there is KVM."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from volant.errors import Conflict, ToolFailed, ToolMissing
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.base import DiskDrive, EndKind, MachineState, TapNic, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor import driver
from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor, check_version
from volant.volantd.hypervisors.cloud_hypervisor.machine import CloudHypervisorMachine
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.vms.answering import answer_at

Start = Callable[[VmSpec], Awaitable[CloudHypervisorMachine]]
SECONDS = 60


@pytest.fixture
async def start(program: Path) -> AsyncIterator[Start]:
    """Machines that end with the test."""
    machines = []

    async def begin(spec: VmSpec) -> CloudHypervisorMachine:
        machine = await CloudHypervisor().start(spec)
        machines.append(machine)
        return machine

    yield begin
    for machine in machines:
        await machine.kill()


def told(spec: VmSpec) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((spec.socket_folder / "ch" / "fake.json").read_text())
    return found


def become(program: Path, line: str) -> None:
    """Another program in its place."""
    program.write_text(f"#!/bin/sh\n{line}\n")


def with_words(spec: VmSpec, *words: str) -> VmSpec:
    return replace(spec, extra_cmdline=words)


async def test_it_boots_and_its_agent_is_reached(start: Start, spec: VmSpec) -> None:
    machine = await start(spec)
    assert machine.state is MachineState.RUNNING
    stream = await machine.open_control()
    loop = asyncio.get_running_loop()
    # Not a byte more than the answer's line is taken from the guest's stream.
    assert await loop.sock_recv(stream, 100) == b"and more"
    await loop.sock_sendall(stream, b"SSH-2.0-host\r\n")
    assert await loop.sock_recv(stream, 100) == b"SSH-2.0-host\r\n"
    stream.close()
    assert told(spec)["config"]["payload"]["kernel"] == str(spec.kernel)
    assert [act for act in told(spec)["heard"] if "ping" not in act] == ["PUT vm.create", "PUT vm.boot"]
    # The console's log is appended to, and for its user alone.
    assert read_last_lines(spec.console_log, 1) == ["Linux version 6.1.0-fake"]
    assert spec.console_log.stat().st_mode & 0o777 == 0o600


async def test_the_host_answers_its_guest(start: Start, spec: VmSpec) -> None:
    machine = await start(with_words(spec, "fake=call"))
    listener = machine.listen_for_guest(9000)
    assert listener is not None
    path = spec.socket_folder / "ch" / "vs_9000"
    assert path.stat().st_mode & 0o777 == 0o600
    answering = asyncio.create_task(answer_at(listener, 9000, lambda port: f"secret {port}".encode()))
    async with asyncio.timeout(SECONDS):
        while read_last_lines(spec.console_log, 1) != ["heard secret 9000"]:  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.01)
    answering.cancel()


async def test_a_nic_gets_its_tap_device_opened(
    start: Start, spec: VmSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_tap(name: str) -> int:
        assert name == "vt1"
        return os.open(spec.initrd or "", os.O_RDONLY)

    monkeypatch.setattr(confine, "open_tap", open_tap)
    await start(replace(spec, nics=(TapNic("52:54:00:00:00:01", "vt1"),)))
    assert told(spec)["config"]["net"] == [{"id": "net0", "mac": "52:54:00:00:00:01", "num_queues": 2}]
    assert told(spec)["heard"][-3:] == ["PUT vm.create", "PUT vm.add-net", "PUT vm.boot"]


async def test_it_is_given_more_while_it_runs(start: Start, spec: VmSpec) -> None:
    machine = await start(spec)
    larger = replace(spec, vcpu=4)
    await machine.resize(larger)
    await machine.resize(replace(larger, memory_mb=512))
    config = told(spec)["config"]
    assert config["cpus"]["boot_vcpus"] == 4
    assert config["memory"]["size"] == 512 << 20
    assert told(spec)["heard"][-2:] == ["PUT vm.resize", "PUT vm.resize"]
    with pytest.raises(Conflict, match="does not give memory back"):
        await machine.resize(replace(larger, memory_mb=256))
    with pytest.raises(Conflict, match="in steps of 128 MiB"):
        await machine.resize(replace(larger, memory_mb=600))
    with pytest.raises(Conflict, match="room for 8 CPUs"):
        await machine.resize(replace(spec, vcpu=9, memory_mb=512))


async def test_the_power_button_ends_it_in_order(start: Start, spec: VmSpec) -> None:
    machine = await start(spec)
    await machine.press_power_button()
    assert (await asyncio.wait_for(machine.wait(), SECONDS)).kind is EndKind.POWERED_OFF


async def test_what_it_refuses_is_shown_in_its_words_and_leaves_no_process(
    program: Path, spec: VmSpec
) -> None:
    missing = replace(spec, disks=(DiskDrive(spec.socket_folder / "gone", "raw", "root"),))
    with pytest.raises(ToolFailed, match=r"cannot vm.create web: Error from API: cannot open"):
        await CloudHypervisor().start(missing)
    assert CloudHypervisor().find_process(missing) is None


async def test_a_program_that_ends_at_once_is_told_with_its_words(program: Path, spec: VmSpec) -> None:
    become(program, "echo no such option >&2; exit 7")
    with pytest.raises(ToolFailed, match="ended with exit code 7") as raised:
        await CloudHypervisor().start(spec)
    assert raised.value.details == ("no such option",)


async def test_the_host_is_looked_at_once(program: Path, spec: VmSpec) -> None:
    hypervisor = CloudHypervisor()
    support = await hypervisor.find_support("amd64", kernel=spec.kernel)
    assert (support.version, support.bus, support.control) == ("54.0.0", "pci", "vsock")
    assert (support.accelerator, support.machine) == ("kvm", "cloud-hypervisor")
    assert await hypervisor.find_support("amd64", kernel=spec.kernel) is support


async def test_there_is_no_way_without_kvm(
    program: Path, spec: VmSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolFailed, match="KVM alone"):
        await CloudHypervisor(wanted_accelerator="tcg").find_support("amd64", kernel=spec.kernel)
    with pytest.raises(ToolFailed, match="system of their own"):
        await CloudHypervisor().find_support("amd64", kernel=None, firmware=True)
    become(program, '[ "$1" = --version ] && echo cloud-hypervisor v54.0.0 || echo went wrong')
    with pytest.raises(ToolFailed, match="its last words: 'went wrong'"):
        await CloudHypervisor().find_support("amd64", kernel=spec.kernel)


async def test_an_absent_program_is_said(spec: VmSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "find_tool", lambda _: None)
    assert not CloudHypervisor().is_installed("amd64")
    with pytest.raises(ToolMissing, match="not installed"):
        await CloudHypervisor().find_support("amd64", kernel=spec.kernel)


def test_an_old_version_is_refused() -> None:
    check_version("v54.0.0")
    check_version("v51.0-12-gabcdef")
    check_version("nightly")
    with pytest.raises(ToolFailed, match=r"older than v51\.0"):
        check_version("v38.2")
