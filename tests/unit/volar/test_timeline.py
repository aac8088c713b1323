# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from volant.volar.timeline import describe_boot


def make_boot(started_from: str | None, *steps: tuple[str, float]) -> Any:
    return {"started_from": started_from, "steps": [{"name": name, "seconds": at} for name, at in steps]}


def test_the_steps_with_their_seconds() -> None:
    boot = make_boot("boot", ("disk", 0.04), ("machine", 0.2), ("agent", 0.91), ("healthy", 2.0))
    assert describe_boot(boot) == "disk 0.0 s, machine 0.2 s, agent 0.9 s, healthy 2.0 s"
    assert describe_boot(make_boot("template", ("machine", 0.2))) == "awake from a template 0.2 s"


def test_a_vm_that_was_never_started_has_none() -> None:
    assert describe_boot(make_boot(None)) == ""
