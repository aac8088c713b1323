# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from volant.contract.api import VmCreate
from volant.contract.workload_api import MOST_FILES_BYTES


def make(**fields: Any) -> VmCreate:
    return VmCreate.model_validate({"name": "one", "plugin": "web", **fields})


def test_what_a_service_of_a_stack_says_is_taken() -> None:
    made = make(
        hostname="db.example",
        stop_signal="SIGRTMIN+3",
        extra_hosts={"a": "10.0.0.1", "b": "::1", "host.docker.internal": "host-gateway"},
        files=[{"path": "/etc/../etc/app".replace("..", "."), "content_base64": "aGk="}],
        health_check={"test": ["NONE"]},
    )
    assert made.files[0].path == "/etc/etc/app"
    assert made.health_check is not None


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"hostname": "a b"}, "host name"),
        ({"stop_signal": "9; reboot"}, "stop_signal"),
        ({"extra_hosts": {"a": "nowhere"}}, "nowhere"),
        ({"extra_hosts": {"a\nb": "10.0.0.1"}}, "host name"),
        ({"health_check": {"test": ["CMD"]}}, "give"),
        ({"health_check": {"test": ["CMD-SHELL", "a", "b"]}}, "give"),
        ({"health_check": {"test": ["reboot"]}}, "give"),
        ({"files": [{"path": "etc/app"}]}, "absolute"),
        ({"files": [{"path": "/srv/../etc"}]}, "absolute"),
        ({"files": [{"path": "/proc/sys/x"}]}, "itself"),
        ({"files": [{"path": "/run/kestrel/bin/sh"}]}, "itself"),
        ({"files": [{"path": "/a"}, {"path": "/./a"}]}, "twice"),
        ({"files": [{"path": "/a", "secret": "k", "content_base64": "aGk="}]}, "both"),
        ({"files": [{"path": "/a", "mode": 0o10000}]}, "mode"),
        ({"files": [{"path": "/a", "content_base64": "?"}]}, "base64"),
    ],
)
def test_what_no_guest_can_be_given_is_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        make(**fields)


def test_files_have_a_bound_together() -> None:
    half = base64.b64encode(bytes(MOST_FILES_BYTES // 2)).decode()
    make(files=[{"path": "/a", "content_base64": half}])
    with pytest.raises(ValidationError, match="attach a volume"):
        make(files=[{"path": f"/{number}", "content_base64": half} for number in range(3)])
