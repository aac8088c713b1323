# SPDX-License-Identifier: Apache-2.0
"""volar tokens, and what volar system audit says of it."""

from __future__ import annotations

import json

from unit.volar.conftest import Volar


def test_a_token_from_create_to_delete(volar: Volar) -> None:
    made = volar("tokens", "create", "ci", "--scope", "vm:web", "--expires", "90d")
    assert made.exit_code == 0
    assert made.out.startswith("volant_")
    assert made.out.count("\n") == 1
    listed = json.loads(volar("tokens", "list", "-o", "json").out)
    assert [(token["name"], token["scope"]) for token in listed] == [("ci", "vm:web")]
    assert listed[0]["expires_at"] > listed[0]["created_at"]
    assert made.out.strip() not in volar("tokens", "list", "-o", "json").out
    again = json.loads(volar("tokens", "rotate", "ci", "--overlap", "10m", "-o", "json").out)
    assert again["token"] != made.out.strip()
    assert again["previous_until"]
    assert volar("tokens", "list", "-o", "name").out == "token/ci\n"
    assert volar("tokens", "delete", "token/ci").out == "deleted ci\n"
    assert volar("tokens", "list", "-o", "json").out == "[]\n"


def test_what_makes_no_sense_is_refused(volar: Volar) -> None:
    assert volar("tokens", "create", "ci", "--scope", "root").exit_code == 3
    assert volar("tokens", "create", "ci", "--expires", "soon").exit_code == 2
    assert volar("tokens", "rotate", "ci", "--overlap", "never").exit_code == 2
    assert volar("tokens", "rotate", "none").exit_code == 4


def test_the_audit_log_tells_who_did_it(volar: Volar) -> None:
    volar("tokens", "create", "audited", "--expires", "never")
    volar("tokens", "create", "audited")
    shown = volar("system", "audit", "--of", "audited", "-o", "json")
    assert [(entry["action"], entry["status"], entry["error"]) for entry in json.loads(shown.out)] == [
        ("tokens_create", 201, ""),
        ("tokens_create", 409, "conflict"),
    ]
    table = volar("system", "audit", "--tail", "1").out.splitlines()
    assert table[0].split() == ["TIME", "WHO", "ACTION", "TARGET", "RESULT"]
    assert table[1].endswith("conflict")
    assert volar("system", "audit", "-n", "1", "-o", "name").out.startswith("change/")
