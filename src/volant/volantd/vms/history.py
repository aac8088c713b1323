# SPDX-License-Identifier: Apache-2.0
"""What was changed of a VM: who, when, and from what to what; written with the change, the newest of them kept.

What counts from the next start is not kept but found out, since any start makes it true. Values of variables are
nobody's business who may see a VM: they are told by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.network.types import PublishedPort
from volant.volantd.request_context import find_request_id, find_who
from volant.volantd.vms.record import VmDefinition, VmRecord

MIGRATIONS = (
    """
    CREATE TABLE vm_changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT, vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
        time TEXT NOT NULL, who TEXT NOT NULL, request_id TEXT NOT NULL, action TEXT NOT NULL, fields TEXT NOT NULL
    ) STRICT;
    CREATE INDEX vm_changes_by_vm ON vm_changes (vm_id, id);
    """,
)
KEPT_CHANGES = 100
HIDDEN = "***"
Action = Literal["update", "restore"]
# Not what a VM is but what it is about to become.
_PASSING = frozenset({"cold", "wakes_from", "restores_to"})


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`name` as the API has it, with the key after a dot for a variable or a label; None: there was, or is, none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class VmChange:
    """`pending` names what of it counts from the next start."""

    time: str
    who: str
    request_id: str
    action: Action
    fields: tuple[FieldChange, ...]
    pending: tuple[str, ...] = ()


class ChangeHistory:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, action: Action, before: VmRecord, after: VmRecord) -> None:
        """Within the transaction that makes the change; nothing where there is none."""
        fields = list(find_changes(_flatten(before), _flatten(after)))
        if not fields:
            return
        self._database.execute(
            "INSERT INTO vm_changes (vm_id, time, who, request_id, action, fields) VALUES (?, ?, ?, ?, ?, ?)",
            (
                after.id, now(), find_who(), find_request_id(), action,
                json.dumps([asdict(field) for field in fields]),
            ),
        )  # fmt: skip
        self._database.execute(
            "DELETE FROM vm_changes WHERE vm_id = ? AND id <="
            " (SELECT id FROM vm_changes WHERE vm_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (after.id, after.id, KEPT_CHANGES),
        )

    def read(self, record: VmRecord) -> list[VmChange]:
        """The oldest first."""
        rows = self._database.fetch_all("SELECT * FROM vm_changes WHERE vm_id = ? ORDER BY id", (record.id,))
        found = []
        waiting = set(record.pending)
        for row in reversed(rows):
            fields = tuple(FieldChange(**field) for field in json.loads(row["fields"]))
            # What has been changed again since waits with that later change.
            names = {field.name.partition(".")[0] for field in fields} & waiting
            waiting -= names
            change = VmChange(
                row["time"], row["who"], row["request_id"], row["action"], fields, tuple(sorted(names))
            )
            found.append(change)
        return found[::-1]


def find_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[FieldChange]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old != new:
            is_hidden = name.startswith("env.")
            yield FieldChange(name, _show(old, is_hidden), _show(new, is_hidden))


def _show(value: str | None, is_hidden: bool) -> str | None:
    return HIDDEN if is_hidden and value is not None else value


def _flatten(record: VmRecord) -> dict[str, str]:
    """What the VM is, as text by the API's names."""
    flat = dict(_flatten_definition(record.definition))
    if ports := _describe_ports(record.ports):
        flat["publish"] = ports
    return flat


def _flatten_definition(definition: VmDefinition) -> Iterator[tuple[str, str]]:
    for name, value in definition.model_dump(mode="json", exclude=set(_PASSING)).items():
        if name == "resources":
            yield from ((key, str(part)) for key, part in value.items())
        elif isinstance(value, dict):
            yield from ((f"{name}.{key}", str(part)) for key, part in value.items())
        elif name == "disk_size_bytes":
            if value is not None:
                yield "disk_size", f"{value >> 20}M"
        elif value not in (None, "", []):
            yield name, value if isinstance(value, str) else json.dumps(value)


def _describe_ports(ports: Sequence[PublishedPort]) -> str:
    return ", ".join(f"{port.host_ip}:{port.host_port}:{port.guest_port}/{port.protocol}" for port in ports)
