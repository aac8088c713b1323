# SPDX-License-Identifier: Apache-2.0
"""Tokens for programs: scope and end of each, and a digest in place of what it is.

A token reads volant_ID_SECRET. The id finds the row; the secret has 256 random bits, so that one round of SHA-256 keeps
it as well as many would. After a rotation the one before is taken for a while, so that nobody is shut out meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, InvalidInput, NotFound, Unauthorized
from volant.volantd.clock import as_text, now
from volant.volantd.database import Database

MIGRATIONS = (
    """
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, digest BLOB NOT NULL,
        lifetime_seconds INTEGER, created_at TEXT NOT NULL, expires_at TEXT,
        previous_digest BLOB, previous_until TEXT
    ) STRICT;
    """,
)
SCOPE_PATTERN = r"^(admin|read|vm:[a-z0-9][a-z0-9_-]{0,62})$"
MOST_TOKENS = 1_000
_TEXT = re.compile(r"volant_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Token:
    """`expires_at` None: it does not. `previous_until`: how long the one before the last rotation is taken."""

    name: str
    scope: str
    created_at: str
    expires_at: str | None
    previous_until: str | None


class TokenStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scope: str, lifetime_seconds: int | None) -> tuple[Token, str]:
        """A new one and its text, which nobody can tell again. Conflict where the name is taken."""
        for value, pattern, what in ((name, NAME_PATTERN, "name"), (scope, SCOPE_PATTERN, "scope")):
            if re.fullmatch(pattern, value) is None:
                raise InvalidInput(
                    f"cannot create token {name!r}: its {what} {value!r} is none",
                    resolution="use a name as for a VM, and the scope read, admin or vm:NAME",
                )
        if len(self.list_all()) >= MOST_TOKENS:
            raise Conflict(f"cannot create token {name}: there are {MOST_TOKENS}, which is the most")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        try:
            self._database.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                (identity, name, scope, _digest(secret), lifetime_seconds, now(), _end(lifetime_seconds)),
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"cannot create token {name}: the name is taken",
                resolution=f"choose another, or renew that one: volar tokens rotate {name}",
            ) from error
        return self.get(name), f"volant_{identity}_{secret}"

    def rotate(self, name: str, overlap_seconds: int) -> tuple[Token, str]:
        """Another text for the same name and scope, with its whole lifetime; the old one is taken for a while yet."""
        row = self._get_row(name)
        secret = secrets.token_urlsafe(32)
        until = min(filter(None, (_end(overlap_seconds), row["expires_at"])))
        self._database.execute(
            "UPDATE tokens SET previous_digest = digest, previous_until = ?, digest = ?, created_at = ?, expires_at = ?"
            " WHERE id = ?",
            (until, _digest(secret), now(), _end(row["lifetime_seconds"]), row["id"]),
        )
        return self.get(name), f"volant_{row['id']}_{secret}"

    def remove(self, name: str) -> None:
        self._database.execute("DELETE FROM tokens WHERE id = ?", (self._get_row(name)["id"],))

    def get(self, name: str) -> Token:
        return _describe(self._get_row(name))

    def list_all(self) -> list[Token]:
        return [_describe(row) for row in self._database.fetch_all("SELECT * FROM tokens ORDER BY name")]

    def find(self, text: str) -> Token | None:
        """Whose text this is; None for one that is not known here, Unauthorized for one whose time is over."""
        if (match := _TEXT.fullmatch(text)) is None:
            return None
        row = self._database.fetch_one("SELECT * FROM tokens WHERE id = ?", (match[1],))
        shown = _digest(match[2])
        if row is None:
            return None
        if hmac.compare_digest(shown, row["digest"]):
            until = row["expires_at"]
        elif row["previous_digest"] and hmac.compare_digest(shown, row["previous_digest"]):
            until = row["previous_until"]
        else:
            return None
        if until is not None and until <= now():
            raise Unauthorized(
                f"cannot answer: token {row['name']} has expired",
                resolution=f"renew it: volar tokens rotate {row['name']}",
            )
        return _describe(row)

    def _get_row(self, name: str) -> sqlite3.Row:
        row = self._database.fetch_one("SELECT * FROM tokens WHERE name = ?", (name,))
        if row is None:
            raise NotFound(f"cannot find token {name}", resolution="see them all with: volar tokens list")
        return row


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _end(seconds: int | None) -> str | None:
    return None if seconds is None else as_text(datetime.now(UTC) + timedelta(seconds=seconds))


def _describe(row: sqlite3.Row) -> Token:
    return Token(row["name"], row["scope"], row["created_at"], row["expires_at"], row["previous_until"])
