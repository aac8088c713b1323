# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.errors import Unreachable, UsageError, WrongState
from volant.volar.client import Client
from volant.volar.commands.vms_guest import make_command_line, require_agent


class OneVm(Client):
    """Knows one VM and its plugin."""

    def __init__(self, status: str, boot: str, ports: list[dict[str, Any]]) -> None:
        super().__init__("one VM")
        agent = {"connected": boot == "kernel" and status == "running"}
        self._vm = {
            "status": status,
            "plugin": {"name": "p", "version": "1.0.0"},
            "ports": ports,
            "agent": agent,
        }
        self._plugin = {"boot": boot}

    def get_vm(self, name: str) -> Any:
        return self._vm

    def get_plugin(self, reference: str) -> Any:
        assert reference == "p:1.0.0"
        return self._plugin


def make_port(guest_port: int) -> dict[str, Any]:
    return {"host_ip": "127.127.1.2", "host_port": 8022, "guest_port": guest_port, "protocol": "tcp"}


def test_a_whole_system_is_refused_with_the_way_that_leads_there() -> None:
    with pytest.raises(Unreachable, match="no agent answers") as raised:
        require_agent(OneVm("running", "firmware", [make_port(22)]), "whole", "forward port 80 of")
    assert raised.value.what.startswith("cannot forward port 80 of VM whole")
    assert "127.127.1.2:8022" in raised.value.resolution
    assert "volar vms ssh whole" in raised.value.resolution
    with pytest.raises(Unreachable):
        require_agent(OneVm("starting", "firmware", []), "whole", "log in to")


def test_a_vm_that_does_not_run_is_the_wrong_state() -> None:
    for status in ("created", "stopped", "failed"):
        with pytest.raises(WrongState, match=f"it is {status}"):
            require_agent(OneVm(status, "kernel", []), "web", "log in to")
    require_agent(OneVm("running", "kernel", []), "web", "log in to")


def test_a_command_line_means_the_same_in_the_guest() -> None:
    assert make_command_line(["echo", "a b", "$HOME"], (), None) == "echo 'a b' '$HOME'"
    line = make_command_line(["env"], ("A=1 2", "B="), "/a dir")
    assert shlex.split(line) == ["cd", "/a dir", "&&", "A=1 2", "B=", "env"]
    with pytest.raises(UsageError, match="not NAME=VALUE"):
        make_command_line(["env"], ("A;rm=1",), None)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["exec", "-d", "web", "sh"], "in the background"),
        (["exec", "--privileged", "web", "sh"], "root in a VM"),
        (["exec", "--frobnicate", "web", "sh"], "--help"),
        (["cp", "a", "b"], "exactly one VM"),
        (["cp", "a:/x", "b:/x"], "exactly one VM"),
        (["port-forward", "web", "http"], "8080:80"),
    ],
)
def test_what_cannot_be_meant_is_answered(volar: Volar, words: list[str], answer: str) -> None:
    done = volar(*words)
    assert done.exit_code == 2
    assert answer in done.err


def test_commands_that_enter_a_stopped_vm_say_how_to_start_it(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("entered")
    volar("create", "off", "-p", "entered", "--no-start")
    for line in ("ssh off", "exec -it off sh", "cp vm/off:/x .", "port-forward off 80"):
        done = volar(*line.split())
        assert done.exit_code == 5, (line, done.err)
        assert "volar vms start off" in done.err
