# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from volant.contract.api import VmCreate, VmTemplate
from volant.errors import VolantError
from volant.volar.compose.deploying import make_template
from volant.volar.compose.doing import make_body
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Stack
from volant.volar.compose.requests import ServiceRequest, make_requests


def make_project(folder: Path, service: dict[str, Any], **more: Any) -> Project:
    stack = Stack.model_validate({"services": {"a": {"image": "i", **service}}, **more})
    return Project("p", folder, stack, {"SHELL_VALUE": "from outside"}, ())


def make(folder: Path, service: dict[str, Any], **more: Any) -> ServiceRequest:
    request = make_requests(make_project(folder, service, **more), ["a"])["a"]
    VmCreate.model_validate(make_body("p-a-1", request, "i:1.0.0"))  # the daemon takes it
    return request


def test_a_whole_service_becomes_a_request(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=file\nB=file\nSHELL_VALUE\n")
    (tmp_path / "labels").write_text("l=file\nm=file\n")
    request = make(
        tmp_path,
        {
            "env_file": str(tmp_path / "env"), "environment": {"B": "own", "SHELL_VALUE": None, "NOWHERE": None},
            "label_file": str(tmp_path / "labels"), "labels": {"m": "own"}, "command": "run it", "entrypoint": ["/e"],
            "working_dir": "/srv", "user": 1000, "hostname": "h", "domainname": "example", "stop_signal": "SIGINT",
            "stop_grace_period": "1m", "extra_hosts": ["up:host-gateway"], "restart": "on-failure:3",
            "ports": ["8080:80", "127.0.0.1:53:53/udp"], "cpus": 1.5, "mem_limit": "1g", "platform": "linux/amd64",
            "x-volant": {"disk_size": "20G", "egress": "a.example,10.0.0.0/8"}, "volumes": ["v:/data:ro", "/cache"],
            "healthcheck": {"test": "ask", "interval": "5s", "retries": 2},
        },
        volumes={"v": None},
    )  # fmt: skip
    body: dict[str, Any] = {**request.body}
    assert body.pop("volumes")[1].pop("name").startswith("p_a_")
    assert body == {
        "env": {"A": "file", "B": "own", "SHELL_VALUE": "from outside"},
        "labels": {"l": "file", "m": "own", "volant.compose.project": "p", "volant.compose.service": "a"},
        "publish": [
            {"host_ip": None, "host_port": 8080, "guest_port": 80, "protocol": "tcp"},
            {"host_ip": "127.0.0.1", "host_port": 53, "guest_port": 53, "protocol": "udp"},
        ],
        "entrypoint": ["/e"], "command": ["run", "it"], "working_dir": "/srv", "user": "1000", "hostname": "h.example",
        "stop_signal": "SIGINT", "stop_timeout_seconds": 60.0, "extra_hosts": {"up": "host-gateway"}, "files": [],
        "networks": ["p_default"], "aliases": ["a", "h"],
        "restart": "on-failure:3", "resources": {"vcpu": 2, "memory_mb": 1024}, "architecture": "amd64",
        "disk_size": "20G", "egress": "a.example,10.0.0.0/8",
        "health_check": {"test": ["CMD-SHELL", "ask"], "interval_seconds": 5.0, "retries": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, {}),
        ({"command": []}, {}),
        ({"command": "a b"}, {"command": ["a", "b"]}),
        ({"entrypoint": "/e x"}, {"entrypoint": ["/e", "x"], "command": []}),
        ({"entrypoint": [], "command": "a"}, {"entrypoint": ["a"]}),
        ({"entrypoint": "", "command": ["a"]}, {"entrypoint": ["a"]}),
    ],
)
def test_commands(tmp_path: Path, service: dict[str, Any], expected: dict[str, Any]) -> None:
    body = make(tmp_path, service).body
    assert {key: value for key, value in body.items() if key in ("command", "entrypoint")} == expected


@pytest.mark.parametrize(
    ("service", "restart", "once"),
    [
        ({}, "no", True),
        ({"restart": "no"}, "no", True),
        ({"restart": "always"}, "always", False),
        (
            {"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 2}}},
            "on-failure:2",
            False,
        ),
        ({"deploy": {"restart_policy": {}}}, "always", False),
        ({"deploy": {"restart_policy": {"condition": "none"}}}, "no", True),
        ({"restart": "always", "deploy": {"restart_policy": {"condition": "none"}}}, "always", False),
    ],
)
def test_without_a_restart_policy_the_end_of_the_command_is_the_vms(
    tmp_path: Path, service: dict[str, Any], restart: str, once: bool
) -> None:
    body = make_body("p-a-1", make(tmp_path, service), "i:1")
    assert (body["restart"], body.get("run_once", False)) == (restart, once)


def test_configs_and_single_files_travel_with_the_request_and_secrets_by_name(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00geheim")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o755)
    request = make(
        tmp_path,
        {
            "configs": ["plain", {"source": "plain", "target": "/etc/x", "mode": "0600", "uid": "5"}],
            "secrets": ["key", {"source": "ours", "target": "other"}],
            "volumes": [f"{tmp_path}/script:/docker-entrypoint.d/go.sh:ro"],
        },
        configs={"plain": {"content": "hello"}},
        secrets={"key": {"file": str(tmp_path / "key")}, "ours": {"external": True, "name": "shared"}},
    )
    script, plain, moved, key, other = request.body["files"]
    assert script["path"] == "/docker-entrypoint.d/go.sh"
    assert script["mode"] == 0o555
    assert (plain["path"], base64.b64decode(plain["content_base64"]), plain["mode"]) == (
        "/plain",
        b"hello",
        0o444,
    )
    assert (moved["path"], moved["mode"], moved["uid"]) == ("/etc/x", 0o600, 5)
    assert key == {"path": "/run/secrets/key", "secret": "compose.p.key", "mode": 0o444, "uid": 0, "gid": 0}
    assert (other["path"], other["secret"]) == ("/run/secrets/other", "shared")
    assert request.secrets == {"compose.p.key": b"\x00geheim"}


def test_another_secret_or_plugin_means_another_digest(tmp_path: Path) -> None:
    def digest(value: str, plugin: str = "i:1", **service: Any) -> str:
        (tmp_path / "key").write_text(value)
        secrets = {"key": {"file": str(tmp_path / "key")}}
        return make(tmp_path, {"secrets": ["key"], **service}, secrets=secrets).digest(plugin)

    assert digest("a") == digest("a")
    assert len({digest("a"), digest("b"), digest("a", "i:2"), digest("a", command="x")}) == 4


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"volumes": ["gone:/data"]}, "there is no volume gone"),
        ({"volumes": [{"type": "npipe", "source": "x", "target": "/x"}]}, "type npipe"),
        ({"volumes": ["./x:relative"]}, "no absolute path"),
        ({"configs": ["gone"]}, "there is no config gone"),
        ({"secrets": ["gone"]}, "there is no secret gone"),
        ({"configs": [{"source": "file", "uid": "www"}]}, "numbers"),
        ({"configs": ["outside"]}, "its content is not here"),
        ({"configs": ["file"]}, "there is no file"),
        ({"env_file": "/no/such/file"}, "no such file"),
        ({"entrypoint": []}, "no command"),
        ({"platform": "windows/amd64"}, "platform"),
        ({"ports": [{"target": 80, "published": "70000"}]}, "no port"),
    ],
)
def test_what_cannot_be_a_vm_names_its_place(tmp_path: Path, service: dict[str, Any], words: str) -> None:
    configs = {"file": {"file": "/no/such/file"}, "outside": {"external": True}}
    with pytest.raises(VolantError) as caught:
        make(tmp_path, service, configs=configs)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"network_mode": "host"}, ["network_mode: left out"]),
        ({"container_name": "a.b"}, ["container_name: left out as a name in networks: a.b"]),
        ({"extra_hosts": {"up": ["10.0.0.1", "10.0.0.2"]}}, ["extra_hosts.up: the first"]),
        ({"domainname": "example"}, ["domainname: left out"]),
        ({"deploy": {"restart_policy": {"max_attempts": 3}}}, ["max_attempts: left out"]),
        ({"deploy": {"restart_policy": {"max_attempts": 3, "condition": "on-failure"}}}, []),
    ],
)
def test_what_is_done_in_part_is_told(tmp_path: Path, service: dict[str, Any], words: list[str]) -> None:
    notes = make(tmp_path, service).notes
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(
    ("service", "scale", "replicas", "is_deployed"),
    [
        ({}, None, 1, False),
        ({}, 1, 1, False),
        ({}, 3, 3, True),
        ({"scale": 1}, None, 1, True),
        ({"deploy": {"replicas": 2}}, None, 2, True),
        ({"deploy": {"replicas": 2}}, 1, 1, True),
        ({"scale": 0}, None, 0, True),
        ({"scale": 2, "restart": "no"}, None, 2, False),
        ({"scale": 2, "deploy": {"restart_policy": {"condition": "none"}}}, None, 2, False),
        ({"scale": 2, "restart": "always"}, None, 2, True),
        ({"scale": 2, "x-volant": {"snapshot": "s"}}, None, 2, False),
    ],
)
def test_a_service_that_says_how_many_is_a_deployment_unless_it_ends(
    tmp_path: Path, service: dict[str, Any], scale: int | None, replicas: int, is_deployed: bool
) -> None:
    asked = {} if scale is None else {"a": scale}
    request = make_requests(make_project(tmp_path, service), ["a"], asked)["a"]
    assert (request.replicas, request.is_deployed) == (replicas, is_deployed)
    if is_deployed:
        template = make_template(request, "i:1.0.0")
        VmTemplate.model_validate(template)
        assert template.get("restart") == service.get("restart"), "whoever says nothing has them replaced"


def test_a_job_that_another_service_waits_for_is_no_deployment(tmp_path: Path) -> None:
    stack = Stack.model_validate(
        {"services": {"job": {"image": "i", "scale": 2},
                      "web": {"image": "i", "depends_on": {"job": {"condition": "service_completed_successfully"}}}}}
    )  # fmt: skip
    request = make_requests(Project("p", tmp_path, stack, {}, ()), ["job"])["job"]
    assert not request.is_deployed
