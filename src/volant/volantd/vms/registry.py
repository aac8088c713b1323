# SPDX-License-Identifier: Apache-2.0
"""The table `vms`: one row a VM, written before and after whatever is done to the world outside.

SQL and the columns' encoding, nothing else. A row that cannot be read is set aside at start and told; the daemon and
all other VMs go on without it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel, TypeAdapter

from volant.contract.agent import AgentState
from volant.contract.egress import parse_egress
from volant.errors import Conflict, NotFound
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import CrashCause, HypervisorKind, ProcessIdentity, VmSpec
from volant.volantd.network.bridge import name_tap
from volant.volantd.network.dhcp import Lease
from volant.volantd.network.egress.rules import HeldGuest
from volant.volantd.network.shared.network import find_guest_address
from volant.volantd.network.shared.rules import Guest
from volant.volantd.network.types import PublishedPort
from volant.volantd.networks.store import DEFAULT
from volant.volantd.usage import Used
from volant.volantd.vms.record import AgentFacts, VmDefinition, VmRecord
from volant.volantd.vms.states import WITH_PROCESS, VmState, check_move

_HYPERVISOR: TypeAdapter[HypervisorKind] = TypeAdapter(HypervisorKind)
_PORTS = TypeAdapter(tuple[PublishedPort, ...])
_IDENTITY = TypeAdapter(ProcessIdentity)
_SPEC = TypeAdapter(VmSpec)
_CRASH = TypeAdapter(CrashCause)

WALKED_AT_ONCE = 100
# Those that run are few among those that are there.
MIGRATIONS = ("CREATE INDEX vms_by_state ON vms (state);",)

# Only a VM that runs has any.
_RUNS = ", ".join(f"'{state.value}'" for state in sorted(WITH_PROCESS))
_HEALTH = f"CASE WHEN state IN ({_RUNS}) THEN coalesce(json_extract(guest, '$.health'), 'unknown') ELSE 'unknown' END"


class VmChanges(TypedDict, total=False):
    """What may change in a row beside the state and its reason."""

    wanted: bool
    hypervisor: HypervisorKind
    process: ProcessIdentity | None
    spec: VmSpec | None
    agent: AgentFacts
    guest: AgentState | None
    last_lines: Sequence[str]
    exit_code: int | None
    started_at: str
    deleting: bool
    restarts: int
    definition: VmDefinition
    ports: Sequence[PublishedPort]
    pending: Sequence[str]
    crash: CrashCause | None


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    id: str
    name: str
    problem: str


class VmRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_change: Callable[[str], object] = lambda vm_id: None
        """Told the id of each row that is written or goes, before anybody can read it anew."""

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
        hypervisor: HypervisorKind,
        on_add: Callable[[str], object] = lambda vm_id: None,
    ) -> VmRecord:
        """A new VM in state created, in one transaction with `on_add`, which is told its id.

        Conflict where name or address is taken, NotFound where the plugin has gone.
        """
        record = VmRecord(
            id=secrets.token_hex(6), name=name, state=VmState.CREATED, reason="", wanted=False,
            plugin_name=plugin[0], plugin_version=plugin[1], definition=definition, address=address, mac=mac,
            ports=tuple(ports), control_key=control_key, host_key=host_key, hypervisor=hypervisor, process=None,
            spec=None, agent=AgentFacts(), guest=None, last_lines=(), exit_code=None, created_at=now(),
            started_at=None, deleting=False, restarts=0, pending=(),
        )  # fmt: skip
        try:
            with self._database.transaction():
                self.restore(record)
                on_add(record.id)
        except sqlite3.IntegrityError as error:
            if "vms.name" in str(error):
                raise name_taken(name) from error
            if "vms.address" in str(error):
                raise Conflict(
                    f"cannot create VM {name}: its address {address} was given to another one meanwhile",
                    resolution="try again",
                ) from error
            if "FOREIGN KEY" in str(error):
                raise NotFound(
                    f"cannot create VM {name}: plugin {':'.join(plugin)} has been removed"
                ) from error
            raise
        return record

    def restore(self, record: VmRecord) -> None:
        """Write a whole row. Raises sqlite3.IntegrityError where it collides with another one."""
        columns = {field.name: _encode(field.name, getattr(record, field.name)) for field in fields(record)}
        self._database.execute(
            f"INSERT INTO vms ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608  # ours
            tuple(columns.values()),
        )
        self.on_change(record.id)

    def find_id(self, name_or_id: str) -> str | None:
        row = self._database.fetch_one(
            "SELECT id FROM vms WHERE (name = ? OR id = ?) ORDER BY name = ? DESC LIMIT 1",
            (name_or_id, name_or_id, name_or_id),
        )
        return None if row is None else str(row["id"])

    def get(self, name_or_id: str) -> VmRecord:
        """By name or id; NotFound, naming what there is, otherwise."""
        row = self._database.fetch_one(
            "SELECT * FROM vms WHERE (name = ? OR id = ?) ORDER BY name = ? DESC LIMIT 1",
            (name_or_id, name_or_id, name_or_id),
        )
        if row is None:
            names = [
                row["name"] for row in self._database.fetch_all("SELECT name FROM vms ORDER BY name LIMIT 20")
            ]
            raise NotFound(
                f"cannot find VM {name_or_id}",
                details=[f"existing: {', '.join(names)}"] if names else [],
                resolution="see them all with: volar vms list",
            )
        return read_row(row)

    def list_all(self) -> list[VmRecord]:
        return [read_row(row) for row in self._database.fetch_all("SELECT * FROM vms ORDER BY name")]

    def walk(self) -> Iterator[VmRecord]:
        """All of them, not at once in memory; those that go meanwhile may be left out."""
        ids = sorted(self.list_ids())
        for start in range(0, len(ids), WALKED_AT_ONCE):
            yield from self.read_many(ids[start : start + WALKED_AT_ONCE])

    def list_page(
        self,
        *,
        after: str,
        limit: int,
        state: VmState | None = None,
        plugin: str = "",
        health: str = "",
        labels: Sequence[tuple[str, str]] = (),
    ) -> list[tuple[str, str]]:
        """Id and name of up to `limit` VMs by name that come after `after`; `plugin` is a name or NAME:VERSION."""
        conditions, values = ["name > ?"], [after]
        if state is not None:
            conditions.append("state = ?")
            values.append(state.value)
        if plugin:
            conditions.append("? IN (plugin_name, plugin_name || ':' || plugin_version)")
            values.append(plugin)
        if health:
            conditions.append(f"{_HEALTH} = ?")
            values.append(health)
        for name, value in labels:
            conditions.append(
                "EXISTS (SELECT 1 FROM json_each(definition, '$.labels') WHERE key = ? AND value = ?)"
            )
            values += [name, value]
        rows = self._database.fetch_all(
            f"SELECT id, name FROM vms WHERE {' AND '.join(conditions)} ORDER BY name LIMIT ?",  # noqa: S608  # ours
            (*values, limit),
        )
        return [(row["id"], row["name"]) for row in rows]

    def read_many(self, ids: Sequence[str]) -> list[VmRecord]:
        """Those that are still there, in no order."""
        marks = ", ".join("?" * len(ids))
        rows = self._database.fetch_all(f"SELECT * FROM vms WHERE id IN ({marks})", tuple(ids))  # noqa: S608  # ours
        return [read_row(row) for row in rows]

    def count_states(self) -> dict[VmState, int]:
        rows = self._database.fetch_all("SELECT state, count(*) AS count FROM vms GROUP BY state")
        return {VmState(row["state"]): row["count"] for row in rows}

    def list_sleepers(self) -> list[VmRecord]:
        """VMs that run and are to be suspended when they are idle."""
        rows = self._database.fetch_all(
            "SELECT * FROM vms WHERE state = 'running'"
            " AND json_extract(definition, '$.suspend_when_idle_seconds') > 0"
        )
        return [read_row(row) for row in rows]

    def list_bridged(self) -> dict[str, tuple[str, ...]]:
        """Addresses of VMs on the bridge by name: of IPv4, and of IPv6 where the guest was told to have one."""
        rows = self._database.fetch_all(
            "SELECT name, address, coalesce(json_extract(spec, '$.nics[0].ipv6_address'), '') AS ipv6_address FROM vms"
            " WHERE json_extract(definition, '$.network') IN ('bridged', 'dhcp') AND address IS NOT NULL"
        )
        return {
            row["name"]: (row["address"], *([row["ipv6_address"]] if row["ipv6_address"] else []))
            for row in rows
        }

    def list_shared_guests(self) -> list[Guest]:
        """Who is on the shared network, or about to be."""
        return self._list_guests("'user'", find_guest_address)

    def list_bridged_guests(self) -> list[Guest]:
        """Who is on the bridge, or about to be; nobody where none of them is in a network by name or has an alias."""
        guests = self._list_guests("'bridged', 'dhcp'", str)
        is_used = any(guest.networks not in ((), (DEFAULT,)) or guest.aliases for guest in guests)
        return guests if is_used else []

    def _list_guests(self, modes: str, find_address: Callable[[str], str]) -> list[Guest]:
        """`modes` of the network, as SQL; `find_address`: which the guest has there, of the one in its row."""
        rows = self._database.fetch_all(
            "SELECT id, name, mac, address, definition,"  # noqa: S608  # ours
            " coalesce(json_extract(spec, '$.nics[0].ipv6_address'), '') AS address6,"
            " coalesce(json_extract(guest, '$.health'), 'starting') AS health"
            f" FROM vms WHERE state IN ({_RUNS})"
            f" AND json_extract(definition, '$.network') IN ({modes}) AND address IS NOT NULL ORDER BY id"
        )
        internal = self._list_internal()
        return [_make_guest(row, find_address(row["address"]), internal) for row in rows]

    def _list_internal(self) -> set[str]:
        return {row["name"] for row in self._database.fetch_all("SELECT name FROM networks WHERE internal")}

    def list_held_guests(self) -> list[HeldGuest]:
        """Of VMs on the bridge, those that run, or are about to, and are held to a list of what they reach."""
        rows = self._database.fetch_all(
            "SELECT name, address, json_extract(definition, '$.egress') AS egress"  # noqa: S608  # ours
            f" FROM vms WHERE state IN ({_RUNS}) AND json_extract(definition, '$.network') IN ('bridged', 'dhcp')"
            " AND address IS NOT NULL AND coalesce(json_extract(definition, '$.egress'), 'open') != 'open'"
        )
        return [HeldGuest(row["name"], row["address"], parse_egress(row["egress"])) for row in rows]

    def list_leases(self) -> list[Lease]:
        """What VMs on the bridge that ask by DHCP are told."""
        rows = self._database.fetch_all(
            "SELECT mac, address, name FROM vms WHERE json_extract(definition, '$.network') IN ('bridged', 'dhcp')"
            " AND address IS NOT NULL ORDER BY address"
        )
        return [Lease(row["mac"], row["address"], row["name"].replace("_", "-")) for row in rows]

    def list_ids(self) -> set[str]:
        return {row["id"] for row in self._database.fetch_all("SELECT id FROM vms")}

    def list_addresses(self) -> set[str]:
        rows = self._database.fetch_all("SELECT address FROM vms WHERE address IS NOT NULL")
        return {row["address"] for row in rows}

    def has_name(self, name: str) -> bool:
        """Whether it means a VM already: one that was called as another's id is would be taken for that one."""
        found = self._database.fetch_one("SELECT 1 FROM vms WHERE name = ? OR id = ?", (name, name))
        return found is not None

    def move(
        self, record: VmRecord, verb: str, target: VmState, reason: str = "", **changes: Unpack[VmChanges]
    ) -> VmRecord:
        """Change the state along a legal move, with other columns in the same commit; WrongState otherwise."""
        with self._database.transaction():
            current = self.get(record.id)
            check_move(current.name, verb, current.state, target)
            self._write(record.id, {"state": target, "reason": reason, **changes})
        return self.get(record.id)

    def update(self, record: VmRecord, **changes: Unpack[VmChanges]) -> VmRecord:
        self._write(record.id, changes)
        return self.get(record.id)

    def update_soon(self, record: VmRecord, **changes: Unpack[VmChanges]) -> VmRecord:
        """`update` that does not wait for the disk: of a process, which a power cut ends as well."""
        self._write(record.id, changes, is_soon=True)
        return self.get(record.id)

    def _write(self, vm_id: str, changes: Mapping[str, object], *, is_soon: bool = False) -> None:
        assignments = ", ".join(f"{name} = ?" for name in changes)
        execute = self._database.execute_soon if is_soon else self._database.execute
        execute(
            f"UPDATE vms SET {assignments} WHERE id = ?",  # noqa: S608  # the names of VmChanges
            (*(_encode(name, value) for name, value in changes.items()), vm_id),
        )
        self.on_change(vm_id)

    def remove(self, record: VmRecord) -> None:
        self._database.execute("DELETE FROM vms WHERE id = ?", (record.id,))
        self.on_change(record.id)

    def set_aside_unreadable(self) -> list[UnreadableRow]:
        """Move rows that cannot be read to a table of their own, as they are."""
        found = []
        for vm_id in sorted(self.list_ids()):
            (row,) = self._database.fetch_all("SELECT * FROM vms WHERE id = ?", (vm_id,))
            try:
                read_row(row)
            except (ValueError, TypeError, KeyError) as error:
                found.append(UnreadableRow(row["id"], row["name"], str(error)))
                with self._database.transaction():
                    self._database.execute(
                        "INSERT INTO unreadable_rows (source, content, problem, time) VALUES ('vms', ?, ?, ?)",
                        (json.dumps(dict(row), default=repr), str(error), now()),
                    )
                    self._database.execute("DELETE FROM vms WHERE id = ?", (row["id"],))
        return found

    def find_users(self, used: Used, name: str) -> list[str]:
        """Names of the VMs that use the plugin NAME:VERSION, the secret, the volume or the snapshot (by its folder)."""
        condition = {
            "plugin": "plugin_name || ':' || plugin_version = ?",
            "secret": "EXISTS (SELECT 1 FROM json_each(definition, '$.secrets')"
            " WHERE json_extract(value, '$.name') = ?)",
            "network": "EXISTS (SELECT 1 FROM json_each(definition, '$.networks') WHERE value = ?)",
            "volume": "EXISTS (SELECT 1 FROM json_each(definition, '$.volumes')"
            " WHERE json_extract(value, '$.name') = ?)",
            "snapshot": "? IN (json_extract(definition, '$.restores_to.folder'), CASE WHEN started_at IS NULL"
            " THEN json_extract(definition, '$.wakes_from.image.folder') END)",
        }[used]
        rows = self._database.fetch_all(
            f"SELECT name FROM vms WHERE {condition} ORDER BY name",  # noqa: S608  # ours
            (name,),
        )
        return [row["name"] for row in rows]


def _make_guest(row: sqlite3.Row, address: str, internal: set[str]) -> Guest:
    definition = VmDefinition.model_validate_json(row["definition"])
    networks = () if definition.isolated else tuple(definition.networks or [DEFAULT])
    return Guest(
        tap=name_tap(row["id"]), mac=row["mac"], address=address, networks=networks,
        name=row["name"], aliases=tuple(definition.aliases), address6=row["address6"],
        leads_out=not networks or not internal.issuperset(networks), egress=parse_egress(definition.egress),
        is_well=row["health"] in ("healthy", "unknown"),
    )  # fmt: skip


def name_taken(name: str) -> Conflict:
    return Conflict(
        f"cannot create VM {name}: the name is taken",
        resolution=f"choose another name, or delete that VM: volar vms delete {name}",
    )


def _dump(adapter: TypeAdapter[Any]) -> Callable[[Any], str]:
    return lambda value: adapter.dump_json(value).decode()


# Columns that SQLite has no type for; None stays None.
_ENCODERS: dict[str, Callable[[Any], object]] = {
    "state": lambda state: state.value,
    "wanted": int,
    "deleting": int,
    "ports": _dump(_PORTS),
    "process": _dump(_IDENTITY),
    "spec": _dump(_SPEC),
    "crash": _dump(_CRASH),
    "last_lines": lambda lines: json.dumps(list(lines)),
    "pending": lambda names: json.dumps(list(names)),
    "definition": BaseModel.model_dump_json,
    "agent": BaseModel.model_dump_json,
    "guest": BaseModel.model_dump_json,
}


def _encode(column: str, value: object) -> object:
    encoder = _ENCODERS.get(column)
    return value if value is None or encoder is None else encoder(value)


def read_row(row: sqlite3.Row) -> VmRecord:
    """Raises ValueError (pydantic's included), TypeError or KeyError for what no version of ours has written."""
    return VmRecord(
        id=row["id"],
        name=row["name"],
        state=VmState(row["state"]),
        reason=row["reason"],
        wanted=bool(row["wanted"]),
        plugin_name=row["plugin_name"],
        plugin_version=row["plugin_version"],
        definition=VmDefinition.model_validate_json(row["definition"]),
        address=row["address"],
        mac=row["mac"],
        ports=_PORTS.validate_json(row["ports"]),
        control_key=row["control_key"],
        host_key=row["host_key"],
        hypervisor=_HYPERVISOR.validate_python(row["hypervisor"]),
        process=_IDENTITY.validate_json(row["process"]) if row["process"] else None,
        spec=_SPEC.validate_json(row["spec"]) if row["spec"] else None,
        agent=AgentFacts.model_validate_json(row["agent"]) if row["agent"] else AgentFacts(),
        guest=AgentState.model_validate_json(row["guest"]) if row["guest"] else None,
        last_lines=tuple(json.loads(row["last_lines"])),
        exit_code=row["exit_code"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        deleting=bool(row["deleting"]),
        restarts=row["restarts"],
        pending=tuple(json.loads(row["pending"])),
        crash=_CRASH.validate_json(row["crash"]) if row["crash"] else None,
    )
