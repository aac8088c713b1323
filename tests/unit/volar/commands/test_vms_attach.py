# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volar import attachment


@pytest.mark.parametrize(("code", "exit_code", "said"), [(3, 3, ""), (None, 0, "which runs on")])
def test_it_ends_as_the_workload_or_because_somebody_left(
    daemon: InProcessDaemon,
    volar: Volar,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
    exit_code: int,
    said: str,
) -> None:
    name = f"typed-{exit_code}"
    daemon.install("web")
    daemon.client.create_vm({"name": name, "plugin": "web", "stdin": True, "tty": True, "start": False})
    asked: list[dict[str, Any]] = []

    def join(client: object, vm: str, **how: Any) -> int | None:
        asked.append({"name": vm, **how})
        return code

    monkeypatch.setattr(attachment, "join", join)
    done = volar("attach", name)
    assert (done.exit_code, said in done.err) == (exit_code, True)
    volar("vms", "attach", "--no-stdin", name)
    assert asked == [
        {"name": name, "types": True, "on_terminal": True},
        {"name": name, "types": False, "on_terminal": True},
    ]
