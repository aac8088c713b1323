# SPDX-License-Identifier: Apache-2.0
"""The tables of deployments: what is wanted, each revision of it, and which VMs belong to which.

A VM's membership is written in the transaction of its row and goes with it, so no VM is ever doubled or forgotten; its
label only tells of it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from volant.errors import Conflict, NotFound
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.deployments.record import Deployment, Progress, Revision, Template, UpdatePolicy
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.request_keys import RequestKey

MIGRATIONS = (
    """
    CREATE TABLE deployments (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, replicas INTEGER NOT NULL, revision INTEGER NOT NULL,
        publish TEXT NOT NULL, policy TEXT NOT NULL, labels TEXT NOT NULL, progress TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, deleting INTEGER NOT NULL DEFAULT 0,
        request_key TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE deployment_revisions (
        deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, number INTEGER NOT NULL,
        template TEXT NOT NULL, cause TEXT NOT NULL, who TEXT NOT NULL, created_at TEXT NOT NULL,
        PRIMARY KEY (deployment_id, number)
    ) STRICT;
    CREATE TABLE deployment_vms (
        vm_id TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE,
        deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, revision INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX deployment_vms_by_deployment ON deployment_vms (deployment_id);
    """,
)
KEPT_REVISIONS = 20
_PORTS = TypeAdapter(tuple[PublishedPort, ...])


@dataclass(frozen=True, slots=True)
class UnreadableDeployment:
    name: str
    problem: str


class DeploymentStore:
    def __init__(self, database: Database) -> None:
        self.database = database

    def add(
        self, name: str, replicas: int, publish: Sequence[PublishedPort], policy: UpdatePolicy,
        labels: Mapping[str, str], template: Template, who: str, request_key: str = "",
    ) -> Deployment:  # fmt: skip
        """Conflict where the name is taken. `request_key` tells whoever asks again that it is the same request."""
        deployment = Deployment(
            id=secrets.token_hex(6), name=name, replicas=replicas, revision=1, publish=tuple(publish),
            policy=policy, labels=dict(labels), progress=Progress(), created_at=now(), updated_at=now(),
            deleting=False,
        )  # fmt: skip
        columns = {**_encode(deployment), "request_key": request_key}
        try:
            with self.database.transaction():
                self.database.execute(
                    f"INSERT INTO deployments ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608  # ours
                    tuple(columns.values()),
                )
                self.add_revision(deployment, template, "create", who)
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"cannot create deployment {name}: there is one already",
                resolution=f"choose another name, or change that one: volar deployments update {name}",
            ) from error
        return deployment

    def write(self, deployment: Deployment) -> None:
        columns = _encode(deployment)
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self.database.execute(
            f"UPDATE deployments SET {assignments} WHERE id = ?",  # noqa: S608  # ours
            (*columns.values(), deployment.id),
        )

    def add_revision(self, deployment: Deployment, template: Template, cause: str, who: str) -> None:
        """That of the deployment's number; the oldest that nothing is of any more go."""
        self.database.execute(
            "INSERT INTO deployment_revisions VALUES (?, ?, ?, ?, ?, ?)",
            (deployment.id, deployment.revision, template.dump(), cause, who, now()),
        )
        self.database.execute(
            "DELETE FROM deployment_revisions WHERE deployment_id = ? AND number <= ? AND number IS NOT ?"
            " AND number NOT IN (SELECT revision FROM deployment_vms WHERE deployment_id = ?)",
            (
                deployment.id,
                deployment.revision - KEPT_REVISIONS,
                deployment.progress.base,
                deployment.id,
            ),
        )

    def get(self, name_or_id: str) -> Deployment:
        row = self.database.fetch_one(
            "SELECT * FROM deployments WHERE name = ? OR id = ? ORDER BY name = ? DESC LIMIT 1",
            (name_or_id, name_or_id, name_or_id),
        )
        if row is None:
            rows = self.database.fetch_all("SELECT name FROM deployments ORDER BY name LIMIT 20")
            names = ", ".join(row["name"] for row in rows)
            raise NotFound(
                f"cannot find deployment {name_or_id}",
                details=[f"existing: {names}"] if names else [],
                resolution="see them all with: volar deployments list",
            )
        return _read(row)

    def find_made(self, name: str, key: RequestKey | None) -> Deployment | None:
        """The deployment of that name, where it was made by this very request. InvalidInput: by another one of its
        key."""
        row = self.database.fetch_one("SELECT * FROM deployments WHERE name = ?", (name,))
        if row is None or key is None or not key.is_same(row["request_key"]):
            return None
        return _read(row)

    def list_all(self) -> list[Deployment]:
        """By name."""
        return [_read(row) for row in self.database.fetch_all("SELECT * FROM deployments ORDER BY name")]

    def get_template(self, deployment: Deployment, number: int | None = None) -> Template:
        """Of the revision that counts now, or of another one: NotFound where that is kept no longer."""
        wanted = deployment.revision if number is None else number
        row = self.database.fetch_one(
            "SELECT template FROM deployment_revisions WHERE deployment_id = ? AND number = ?",
            (deployment.id, wanted),
        )
        if row is None:
            raise NotFound(
                f"cannot find revision {wanted} of deployment {deployment.name}",
                resolution=f"see those that are kept: volar deployments get {deployment.name}",
            )
        return Template.model_validate_json(row["template"])

    def list_revisions(self, deployment: Deployment) -> list[Revision]:
        """The oldest first."""
        rows = self.database.fetch_all(
            "SELECT * FROM deployment_revisions WHERE deployment_id = ? ORDER BY number", (deployment.id,)
        )
        return [
            Revision(
                number=row["number"], template=Template.model_validate_json(row["template"]),
                cause=row["cause"], who=row["who"], created_at=row["created_at"],
            )
            for row in rows
        ]  # fmt: skip

    def add_vm(self, deployment: Deployment, revision: int, vm_id: str) -> None:
        """Within the transaction that writes the VM's row."""
        self.database.execute("INSERT INTO deployment_vms VALUES (?, ?, ?)", (vm_id, deployment.id, revision))

    def list_vms(self, deployment: Deployment) -> dict[str, int]:
        """Ids of its VMs, and the revision that each was made of."""
        rows = self.database.fetch_all(
            "SELECT vm_id, revision FROM deployment_vms WHERE deployment_id = ?", (deployment.id,)
        )
        return {row["vm_id"]: row["revision"] for row in rows}

    def list_names(self, name: str) -> set[str]:
        """Names that VMs of such a deployment could have, and some VM has."""
        rows = self.database.fetch_all("SELECT name FROM vms WHERE name GLOB ?", (f"{name}-[0-9]*",))
        return {row["name"] for row in rows}

    def remove(self, deployment: Deployment) -> None:
        self.database.execute("DELETE FROM deployments WHERE id = ?", (deployment.id,))

    def set_aside_unreadable(self) -> list[UnreadableDeployment]:
        """Move rows that cannot be read to a table of their own, as they are; their VMs stay, as nobody's."""
        found = []
        for row in self.database.fetch_all("SELECT * FROM deployments"):
            try:
                self.list_revisions(_read(row))
            except (ValueError, TypeError, KeyError) as error:
                found.append(UnreadableDeployment(row["name"], str(error)))
                with self.database.transaction():
                    self.database.execute(
                        "INSERT INTO unreadable_rows (source, content, problem, time)"
                        " VALUES ('deployments', ?, ?, ?)",
                        (json.dumps(dict(row), default=repr), str(error), now()),
                    )
                    self.database.execute("DELETE FROM deployments WHERE id = ?", (row["id"],))
        return found


def _encode(deployment: Deployment) -> dict[str, object]:
    return {
        "id": deployment.id,
        "name": deployment.name,
        "replicas": deployment.replicas,
        "revision": deployment.revision,
        "publish": _PORTS.dump_json(deployment.publish).decode(),
        "policy": deployment.policy.model_dump_json(),
        "labels": json.dumps(deployment.labels),
        "progress": deployment.progress.model_dump_json(),
        "created_at": deployment.created_at,
        "updated_at": deployment.updated_at,
        "deleting": int(deployment.deleting),
    }


def _read(row: sqlite3.Row) -> Deployment:
    """Raises ValueError (pydantic's included), TypeError or KeyError for what no version of ours has written."""
    return Deployment(
        id=row["id"],
        name=row["name"],
        replicas=row["replicas"],
        revision=row["revision"],
        publish=_PORTS.validate_json(row["publish"]),
        policy=UpdatePolicy.model_validate_json(row["policy"]),
        labels={str(name): str(value) for name, value in json.loads(row["labels"]).items()},
        progress=Progress.model_validate_json(row["progress"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleting=bool(row["deleting"]),
    )
