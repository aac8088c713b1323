# SPDX-License-Identifier: Apache-2.0
"""Networks by name: who is in one is said by each VM's definition, what that means by `network/shared` and
`network/bridge_networks`."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, InvalidInput, NotFound
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.usage import Usage, describe_users

logger = logging.getLogger(__name__)

DEFAULT = "default"
# What `--network` says besides names.
MODES = frozenset({"bridged", "user", "vsock", "dhcp", "host", "none"})
MOST_NETWORKS = 1_000
MIGRATIONS = (
    """
    CREATE TABLE networks (
        name TEXT PRIMARY KEY, internal INTEGER NOT NULL, labels TEXT NOT NULL, created_at TEXT NOT NULL
    ) STRICT;
    INSERT INTO networks VALUES ('default', 0, '{}', strftime('%Y-%m-%dT%H:%M:%fZ'));
    """,
)


@dataclass(frozen=True, slots=True)
class Network:
    """`internal`: it leads to its members alone."""

    name: str
    internal: bool
    labels: Mapping[str, str]
    created_at: str


class NetworkStore:
    def __init__(self, database: Database, usage: Usage) -> None:
        self._database = database
        self._usage = usage

    def create(self, name: str, *, internal: bool, labels: Mapping[str, str]) -> Network:
        """Raises InvalidInput, and Conflict where there is one of that name."""
        if re.fullmatch(NAME_PATTERN, name) is None or name in MODES:
            raise InvalidInput(
                f"cannot make network {name!r}: a name has lower-case letters, digits, '-' and '_',"
                " begins with a letter or digit, has at most 63 of them and is none of"
                f" {', '.join(sorted(MODES))}"
            )
        if len(self.list_all()) >= MOST_NETWORKS:
            raise Conflict(f"cannot make network {name}: there are {MOST_NETWORKS}, which is the most")
        try:
            self._database.execute(
                "INSERT INTO networks VALUES (?, ?, ?, ?)",
                (name, int(internal), json.dumps(dict(labels)), now()),
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"cannot make network {name}: there is one already", resolution="choose another name"
            ) from error
        return self.get(name)

    def get(self, name: str) -> Network:
        row = self._database.fetch_one("SELECT * FROM networks WHERE name = ?", (name,))
        if row is None:
            names = ", ".join(network.name for network in self.list_all()[:20])
            raise NotFound(
                f"cannot find network {name}",
                details=[f"existing: {names}"],
                resolution=f"create it: volar networks create {name}",
            )
        return _read(row)

    def list_all(self) -> list[Network]:
        """By name."""
        return [_read(row) for row in self._database.fetch_all("SELECT * FROM networks ORDER BY name")]

    def list_internal(self) -> set[str]:
        return {row["name"] for row in self._database.fetch_all("SELECT name FROM networks WHERE internal")}

    def check(self, names: Iterable[str]) -> None:
        """NotFound for one that is not there."""
        for name in names:
            self.get(name)

    def find_vms(self, network: Network) -> list[str]:
        """Names of those that are in it, running or not."""
        return self._usage.find_vms("network", network.name)

    def remove(self, name: str) -> None:
        """Conflict while a VM is in it, and for the one that is always there."""
        network = self.get(name)
        if network.name == DEFAULT:
            raise Conflict(f"cannot delete network {DEFAULT}: VMs that ask for no other are in it")
        if users := self._usage.find_users("network", network.name):
            counts, names, command = describe_users(users)
            raise Conflict(
                f"cannot delete network {name}: {counts} use it", details=names, resolution=command
            )
        self._database.execute("DELETE FROM networks WHERE name = ?", (name,))


def _read(row: sqlite3.Row) -> Network:
    return Network(row["name"], bool(row["internal"]), _read_labels(row), row["created_at"])


def _read_labels(row: sqlite3.Row) -> dict[str, str]:
    """None where they cannot be read: VMs are in their network without them."""
    try:
        labels = json.loads(row["labels"])
        return {str(name): str(value) for name, value in labels.items()}
    except (ValueError, AttributeError) as error:
        logger.error("network %s: its labels cannot be read: %s", row["name"], error)
        return {}
