# SPDX-License-Identifier: Apache-2.0
"""The golden documents that the guest agent's Go tests read too: both sides know every field of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from volant.contract.agent import AgentState, AgentStats, Hello, LogEntry, LogQuery
from volant.contract.guest_config import GuestConfig
from volant.contract.image_config import ImageConfig

GOLDEN = Path(__file__).parents[3] / "contract" / "golden"
MODELS: dict[str, type[BaseModel]] = {
    "guest_config": GuestConfig,
    "image_config": ImageConfig,
    "hello": Hello,
    "agent_state": AgentState,
    "log_query": LogQuery,
    "log_entry": LogEntry,
    "agent_stats": AgentStats,
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_golden_document_survives_a_round_trip(name: str) -> None:
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    assert MODELS[name].model_validate(document).model_dump(mode="json") == document


@pytest.mark.parametrize("name", sorted(MODELS))
def test_golden_document_uses_every_field(name: str) -> None:
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    assert set(document) == set(MODELS[name].model_fields)
    assert all(value != [] and value != {} for value in document.values())


def test_minimal_guest_config_is_enough() -> None:
    config = GuestConfig.model_validate_json((GOLDEN / "guest_minimal.json").read_text())
    assert config.root is not None and config.root.serial == "root"
