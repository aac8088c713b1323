# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_events_show_what_a_guest_says_spelled_out(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.add_event("health", "evil", health_reason="\x1b]0;owned\x07\u202etxt\x9b2J\nforged line")
    shown = volar("events", "vms", "--vm", "vm/evil").out
    assert not set(shown) & set("\x1b\x07\u202e\x9b")
    assert len(shown.splitlines()) == 1
    assert volar("events", "--vm", "evil").out == shown
    document = volar("events", "vms", "--vm", "evil", "-o", "json").out
    assert not set(document) & set("\x1b\x07\u202e\x9b")
    assert json.loads(document)["data"]["health_reason"].endswith("forged line")
