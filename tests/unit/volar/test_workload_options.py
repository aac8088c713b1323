# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from volant.contract.api import VmCreate as Request
from volant.errors import UsageError
from volant.volar.workload_options import WorkloadOptions, workload_options

if TYPE_CHECKING:
    from volant.contract.api_types import VmCreate


def read(*arguments: str) -> VmCreate:
    """What these words of docker add to a request, which the API takes."""
    request: VmCreate = {"name": "web", "plugin": "web"}

    @click.command()
    @workload_options
    def command(workload: WorkloadOptions) -> None:
        workload.complete(request)

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    Request.model_validate(request)
    return {key: value for key, value in request.items() if key not in ("name", "plugin")}  # type: ignore[return-value]  # a part of it


def test_nothing_said_is_left_to_the_image() -> None:
    assert read() == {}


def test_every_word_of_docker_has_its_field() -> None:
    assert read(
        "--entrypoint", "/bin/sh -c", "-u", "1000:1000", "-w", "/srv", "--hostname", "web.example", "--add-host",
        "db:10.0.0.2", "--add-host", "six=fd00::2", "--stop-signal", "SIGINT", "--stop-timeout", "30",
    ) == {
        "entrypoint": ["/bin/sh", "-c"],
        "user": "1000:1000",
        "working_dir": "/srv",
        "hostname": "web.example",
        "extra_hosts": {"db": "10.0.0.2", "six": "fd00::2"},
        "stop_signal": "SIGINT",
        "stop_timeout_seconds": 30,
    }  # fmt: skip


def test_a_health_check_is_a_line_of_a_shell_with_its_times() -> None:
    assert read("--health-cmd", "curl -f localhost", "--health-interval", "5s", "--health-retries", "2") == {
        "health_check": {
            "test": ["CMD-SHELL", "curl -f localhost"],
            "interval_seconds": 5,
            "timeout_seconds": None,
            "start_period_seconds": None,
            "retries": 2,
        }
    }
    assert read("--no-healthcheck") == {"health_check": {"test": ["NONE"]}}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--health-interval", "5s"], "without a health check"),
        (["--no-healthcheck", "--health-cmd", "true"], "cannot use --no-healthcheck"),
        (["--add-host", "db"], "cannot add the host 'db'"),
    ],
)
def test_what_is_half_said_is_refused(arguments: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(*arguments)
