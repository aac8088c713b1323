# SPDX-License-Identifier: Apache-2.0
"""The VMs that exist: one row each, written before and after whatever is done to the world outside.

`wanted` says whether the VM should run (what a reboot of the host restores), `state` what it last did. A row with
`deleting` set belongs to a VM whose files are going: it is finished at the next start of the daemon.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from volant.contract.agent import AgentState
from volant.contract.api import AgentInfo, NetworkMode, PublishedPort, SecretAttachment
from volant.contract.manifest import Resources
from volant.errors import Conflict, NotFound
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import ProcessIdentity, VmSpec
from volant.volantd.vms.states import VmState, check_move

_PORTS = TypeAdapter(tuple[PublishedPort, ...])
_IDENTITY = TypeAdapter(ProcessIdentity)
_SPEC = TypeAdapter(VmSpec)


class VmDefinition(BaseModel):
    """What a VM is, resolved at its creation from the request and the plugin's manifest."""

    model_config = ConfigDict(frozen=True)

    resources: Resources
    network: NetworkMode
    env: dict[str, str] = Field(default_factory=dict)
    user_data_base64: str = ""
    ssh_keys: list[str] = Field(default_factory=list)
    secrets: list[SecretAttachment] = Field(default_factory=list)
    disk_size_bytes: int | None = None
    restart: Literal["always", "no"] = "always"
    labels: dict[str, str] = Field(default_factory=dict)
    entrypoint: list[str] = Field(default_factory=list)
    command: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VmRecord:
    """`control_key` and `host_key` are private keys (OpenSSH): ours for the agent, and the agent's own."""

    id: str
    name: str
    state: VmState
    reason: str
    wanted: bool
    plugin_name: str
    plugin_version: str
    definition: VmDefinition
    address: str | None
    mac: str
    ports: tuple[PublishedPort, ...]
    control_key: str
    host_key: str
    process: ProcessIdentity | None
    spec: VmSpec | None
    agent: AgentInfo
    guest: AgentState | None
    last_lines: tuple[str, ...]
    exit_code: int | None
    created_at: str
    started_at: str | None
    deleting: bool

    @property
    def plugin_reference(self) -> str:
        return f"{self.plugin_name}:{self.plugin_version}"


class VmRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        name: str,
        plugin: tuple[str, str],
        definition: VmDefinition,
        address: str | None,
        mac: str,
        ports: Sequence[PublishedPort],
        control_key: str,
        host_key: str,
    ) -> VmRecord:
        """A new VM in state created. Conflict where the name is taken."""
        identity = secrets.token_hex(6)
        try:
            self._database.execute(
                "INSERT INTO vms (id, name, state, plugin_name, plugin_version, request, address, mac, ports,"
                " control_key, host_key, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    identity,
                    name,
                    VmState.CREATED.value,
                    *plugin,
                    definition.model_dump_json(),
                    address,
                    mac,
                    _PORTS.dump_json(tuple(ports)).decode(),
                    control_key,
                    host_key,
                    now(),
                ),
            )
        except sqlite3.IntegrityError as error:
            if "vms.name" in str(error):
                raise name_taken(name) from error
            if "FOREIGN KEY" in str(error):
                raise NotFound(
                    f"cannot create VM {name}: plugin {':'.join(plugin)} has been removed"
                ) from error
            raise
        return self.get(identity)

    def restore(self, record: VmRecord) -> None:
        """Write a VM that was here before, as it was. Raises sqlite3.IntegrityError where it collides."""
        columns = {
            "id": record.id, "name": record.name, "state": record.state.value, "reason": record.reason,
            "wanted": record.wanted, "plugin_name": record.plugin_name, "plugin_version": record.plugin_version,
            "request": record.definition, "address": record.address, "mac": record.mac,
            "ports": _PORTS.dump_json(record.ports).decode(), "control_key": record.control_key,
            "host_key": record.host_key, "process": record.process, "machine": record.spec,
            "created_at": record.created_at,
        }  # fmt: skip
        self._database.execute(
            f"INSERT INTO vms ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608  # ours
            tuple(_encode(value) for value in columns.values()),
        )

    def get(self, name_or_id: str) -> VmRecord:
        """By name or id; NotFound, naming what there is, otherwise."""
        row = self._database.fetch_one(
            "SELECT * FROM vms WHERE (name = ? OR id = ?) ORDER BY name = ? DESC LIMIT 1",
            (name_or_id, name_or_id, name_or_id),
        )
        if row is None:
            names = [record.name for record in self.list_all()]
            raise NotFound(
                f"cannot find VM {name_or_id}",
                details=[f"existing: {', '.join(names[:20])}"] if names else [],
                resolution="see them all with: volar vms list",
            )
        return _read_row(row)

    def list_all(self) -> list[VmRecord]:
        return [_read_row(row) for row in self._database.fetch_all("SELECT * FROM vms ORDER BY name")]

    def move(
        self, record: VmRecord, verb: str, target: VmState, reason: str = "", **changes: Any
    ) -> VmRecord:
        """Change the state along a legal move, with other columns in the same commit; WrongState otherwise."""
        with self._database.transaction():
            current = self.get(record.id)
            check_move(current.name, verb, current.state, target)
            return self.update(current, state=target.value, reason=reason, **changes)

    def update(self, record: VmRecord, **changes: Any) -> VmRecord:
        """Write columns; values that are not SQLite's own types are stored as JSON."""
        encoded = {name: _encode(value) for name, value in changes.items()}
        assignments = ", ".join(f"{name} = :{name}" for name in encoded)
        self._database.execute(
            f"UPDATE vms SET {assignments} WHERE id = :row_id",  # noqa: S608  # names are ours, from keyword arguments
            {**encoded, "row_id": record.id},
        )
        return self.get(record.id)

    def remove(self, record: VmRecord) -> None:
        self._database.execute("DELETE FROM vms WHERE id = ?", (record.id,))

    def find_secret_users(self, secret: str) -> list[str]:
        return [
            record.name
            for record in self.list_all()
            if any(attached.name == secret for attached in record.definition.secrets)
        ]


def name_taken(name: str) -> Conflict:
    return Conflict(
        f"cannot create VM {name}: the name is taken",
        resolution=f"choose another name, or delete that VM: volar vms delete {name}",
    )


def _encode(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, ProcessIdentity):
        return _IDENTITY.dump_json(value).decode()
    if isinstance(value, VmSpec):
        return _SPEC.dump_json(value).decode()
    if isinstance(value, (list, tuple)):
        return json.dumps(list(value))
    if isinstance(value, bool):
        return int(value)
    return value


def _read_row(row: sqlite3.Row) -> VmRecord:
    return VmRecord(
        id=row["id"],
        name=row["name"],
        state=VmState(row["state"]),
        reason=row["reason"],
        wanted=bool(row["wanted"]),
        plugin_name=row["plugin_name"],
        plugin_version=row["plugin_version"],
        definition=VmDefinition.model_validate_json(row["request"]),
        address=row["address"],
        mac=row["mac"],
        ports=_PORTS.validate_json(row["ports"]),
        control_key=row["control_key"],
        host_key=row["host_key"],
        process=_IDENTITY.validate_json(row["process"]) if row["process"] else None,
        spec=_SPEC.validate_json(row["machine"]) if row["machine"] else None,
        agent=AgentInfo.model_validate_json(row["agent"]) if row["agent"] else AgentInfo(),
        guest=AgentState.model_validate_json(row["guest"]) if row["guest"] else None,
        last_lines=tuple(json.loads(row["last_lines"])),
        exit_code=row["exit_code"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        deleting=bool(row["deleting"]),
    )
