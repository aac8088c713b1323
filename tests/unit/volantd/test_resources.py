# SPDX-License-Identifier: Apache-2.0
"""A kind of resource that comes later is a folder and a line in the list: nothing else of the daemon is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.errors import Conflict
from volant.volantd import daemon, opened_state
from volant.volantd.api import application
from volant.volantd.api.router import Router
from volant.volantd.resource import Resource
from volant.volantd.resources import RESOURCES
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet

SHELVES = (
    "CREATE TABLE shelves (name TEXT PRIMARY KEY) STRICT;",
    "ALTER TABLE shelves ADD COLUMN size INTEGER;",
)


@contextlib.contextmanager
def open_fleet(home: Path) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        settings = Settings(state_dir=home, runtime_dir=home)
        yield Fleet(opened_state.make_domain(settings, MemoryHypervisor(MemoryHost()), stack))


def make_router(fleet: Fleet) -> Router:
    router = Router("/shelves", tags=["shelves"])

    @router.get("")
    async def list_shelves() -> list[str]:
        return [row["name"] for row in fleet.domain.database.fetch_all("SELECT name FROM shelves")]

    return router


async def test_a_new_kind_brings_its_tables_its_routes_its_sweep_and_its_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []

    async def sweep(fleet: Fleet) -> None:
        swept.extend(row["name"] for row in fleet.domain.database.fetch_all("SELECT name FROM shelves"))

    shelves = Resource(
        name="shelves",
        noun="shelf",
        migrations=SHELVES,
        make_routers=lambda fleet: [make_router(fleet)],
        sweep=sweep,
        find_users=lambda _: lambda used, name: ["data"] if (used, name) == ("secret", "key") else [],
    )
    for module in (daemon, opened_state, application):
        monkeypatch.setattr(module, "RESOURCES", (*RESOURCES, shelves))
    with open_fleet(tmp_path) as fleet:
        fleet.domain.database.execute("INSERT INTO shelves VALUES ('data', 1)")
        await daemon.sweep_all(fleet)
        assert "/api/v1/shelves" in application.make_application(fleet.domain, fleet).openapi()["paths"]
        fleet.domain.secrets.set("key", b"")
        with pytest.raises(Conflict, match="1 shelf use it") as caught:
            fleet.domain.secrets.remove("key")
        assert caught.value.resolution == "delete them first: volar shelves delete data"
        await fleet.release_all()
    assert swept == ["data"]


def test_a_daemon_that_does_not_know_a_kind_or_its_newer_tables_refuses_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for migrations in (SHELVES[:1], SHELVES, SHELVES):
        monkeypatch.setattr(
            opened_state,
            "RESOURCES",
            (*RESOURCES, Resource(name="shelves", noun="shelf", migrations=migrations)),
        )
        with open_fleet(tmp_path) as fleet:
            columns = fleet.domain.database.fetch_all("PRAGMA table_info(shelves)")
            assert len(columns) == len(migrations)
    monkeypatch.setattr(opened_state, "RESOURCES", RESOURCES)
    with pytest.raises(Conflict, match="a newer volant wrote its shelves"), open_fleet(tmp_path):
        pass
