# SPDX-License-Identifier: Apache-2.0
"""Rows of every schema that was ever released are read, as they were written."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from volant.volantd.database import MIGRATIONS, Database
from volant.volantd.hypervisors.base import ProcessIdentity, StreamNic, TapNic, UserNic
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.record import AttachedSecret
from volant.volantd.vms.registry import VmRegistry
from volant.volantd.vms.states import VmState
from volant.volantd.vms.vm_file import VmFile

GOLDEN = Path(__file__).parents[3] / "golden" / "rows"


def write_golden(path: Path, schema: int) -> dict[str, Any]:
    """A database as a daemon of that schema left it."""
    rows: dict[str, Any] = json.loads((GOLDEN / f"schema-{schema}.json").read_text())
    connection = sqlite3.connect(path)
    for statements in MIGRATIONS[:schema]:
        connection.executescript(statements)
    connection.execute(f"PRAGMA user_version={schema}")
    for table in ("plugins", "vms"):
        for row in rows[table]:
            names = ", ".join(row)
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
    connection.commit()
    connection.close()
    return rows


def test_there_are_golden_rows_of_every_schema_before_this_one() -> None:
    names = {f"schema-{number}.json" for number in range(1, len(MIGRATIONS))}
    assert {path.name for path in GOLDEN.glob("schema-*.json")} >= names


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5, 6, 7])
def test_rows_of_older_schemas_are_read(tmp_path: Path, schema: int) -> None:
    written = write_golden(tmp_path / "db", schema)
    registry = VmRegistry(Database(tmp_path / "db"))
    assert registry.set_aside_unreadable() == []
    records = {record.name: record for record in registry.list_all()}
    assert set(records) == {row["name"] for row in written["vms"]}

    running = records["running"]
    assert running.state is VmState.RUNNING and running.wanted and running.hypervisor == "qemu"
    assert running.process == ProcessIdentity(4711, 123456, "0f0e")
    assert running.ports[1] == PublishedPort("0.0.0.0", 5353, 53, "udp")
    assert running.definition.secrets == [AttachedSecret(name="key", port=9001, uid=33)]
    assert (running.definition.env, running.definition.labels) == ({"A": "b"}, {"tier": "web"})
    assert running.definition.resources.memory_mb == 256
    assert running.spec is not None and not running.has_own_system
    assert running.spec.socket_folder == running.spec.console_log.parent
    assert running.spec.nics == (UserNic(running.mac, running.ports),)
    assert running.guest is not None and running.guest.kernel == "6.1.0-13-cloud-amd64"
    assert running.agent.missing == ("secrets",)

    assert (running.definition.restart, running.restarts) == ("on-failure", 0)
    assert records["created"].definition.restart == "no"

    system = records["system"]
    assert system.has_own_system and system.state is VmState.STOPPING
    assert system.spec is not None and system.spec.nics == (TapNic(system.mac, "vtap0123456789"),)
    assert system.spec.disks[1].read_only
    streaming = records["streaming"].spec
    assert streaming is not None and isinstance(streaming.nics[0], StreamNic)
    assert records["failed"].last_lines[1].endswith("not syncing")
    assert records["failed"].exit_code == 3
    assert records["going"].deleting
    for record in records.values():
        assert registry.update(record, last_lines=record.last_lines) == record


def test_a_row_that_cannot_be_read_is_set_aside_whole(tmp_path: Path) -> None:
    write_golden(tmp_path / "db", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        connection.execute("UPDATE vms SET machine = 'no JSON' WHERE name = 'system'")
    database = Database(tmp_path / "db")
    registry = VmRegistry(database)
    database.execute("UPDATE vms SET definition = '{}' WHERE name = 'running'")
    database.execute("UPDATE vms SET state = 'flying' WHERE name = 'failed'")
    database.execute("UPDATE vms SET hypervisor = 'another' WHERE name = 'going'")
    found = registry.set_aside_unreadable()
    assert {row.name for row in found} == {"running", "failed", "system", "going"}
    assert {record.name for record in registry.list_all()} == {"created", "streaming"}
    kept = database.fetch_all("SELECT content FROM unreadable_rows")
    assert '"127.127.0.2"' in "".join(row["content"] for row in kept)
    assert registry.set_aside_unreadable() == []


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("vm-*.json")), ids=lambda path: path.name)
def test_vm_files_of_older_versions_are_read(path: Path) -> None:
    file = VmFile.model_validate_json(path.read_bytes())
    record = file.make_record(ProcessIdentity(4711, 123456, "0f0e"))
    assert (record.name, record.state, record.hypervisor) == ("running", VmState.RUNNING, "qemu")
    assert record.definition.restart == "on-failure"
    assert record.spec is not None and record.spec.socket_folder == record.spec.console_log.parent


def test_pages_and_filters_are_the_databases_work(tmp_path: Path) -> None:
    write_golden(tmp_path / "db", 1)
    registry = VmRegistry(Database(tmp_path / "db"))

    def names(**filters: Any) -> list[str]:
        return [name for _, name in registry.list_page(**{"after": "", "limit": 10, **filters})]

    assert names() == ["created", "failed", "going", "running", "streaming", "system"]
    assert names(limit=2) == ["created", "failed"]
    assert names(after="running") == ["streaming", "system"]
    assert names(state=VmState.STOPPING) == ["system"]
    assert names(plugin="system") == names(plugin="system:2.1.0") == ["system"]
    assert names(health="healthy") == ["running"]
    assert names(health="unknown") == ["created", "failed", "going", "streaming", "system"]
    assert names(labels=[("tier", "web")]) == ["running"]
    assert names(labels=[("tier", "web"), ('"', "'")]) == []
    assert registry.find_users("secret", "key") == ["running"]
    assert registry.find_users("plugin", "system:2.1.0") == ["system"]
    assert registry.list_bridged() == {"system": ("192.168.127.100",)}
    assert registry.count_states()[VmState.RUNNING] == 1


def test_what_does_not_wait_for_the_disk_is_there_for_the_next_daemon(tmp_path: Path) -> None:
    write_golden(tmp_path / "db", 1)
    registry = VmRegistry(Database(tmp_path / "db"))
    told: list[str] = []
    registry.on_change = told.append
    record = registry.get("created")
    process = ProcessIdentity(4712, 1, "0f0e")
    written = registry.update_soon(record, process=process)
    assert (written.process, told) == (process, [record.id])
    # Its daemon is killed: nobody closes the connection.
    assert VmRegistry(Database(tmp_path / "db")).get("created").process == process
