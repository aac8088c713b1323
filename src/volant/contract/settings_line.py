# SPDX-License-Identifier: Apache-2.0
"""How a guest that wakes from memory is told which VM it is, before there is a key that it and the host share.

On the control stream, in plain text: a line of SETTINGS_PREFIX, a word of the host's choice, a blank and the number of
bytes that follow; these are a `Become` as JSON, or a `Wake`: it goes on as who it was. The guest answers with a line of
ANSWER_PREFIX, that word, a blank, and "ok" or what went wrong; whatever comes before that line was meant for an earlier
host. A number of 0 only asks whether somebody listens. Only who owns the hypervisor's process can write to that stream,
and a guest takes settings only as a template or while it is held for a snapshot.
"""

from __future__ import annotations

from pydantic import Field

from volant.contract.guest_config import GuestConfig, GuestModel

SETTINGS_PREFIX = "VOLANT-SETTINGS "
ANSWER_PREFIX = "kestrel answers "
# The agent has it (`Hello.features`).
FEATURE = "settings-line"
WAKE_FEATURE = "wake-line"


class Become(GuestModel):
    guest_config: GuestConfig
    entropy_base64: str = Field(description="at least 32 bytes of the host's randomness")
    hardware_addresses: list[str] = Field(
        default_factory=list,
        description="of a template's cards, in the order of the settings' interfaces: the machine wakes with them",
    )


class Wake(GuestModel):
    unix_time_nanoseconds: int
    entropy_base64: str = Field(description="at least 32 bytes of the host's randomness")
