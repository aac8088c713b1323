# SPDX-License-Identifier: Apache-2.0
"""Things on disk, one folder each: `<noun>.json` (0600) says what it is, and its files lie beside that.

A folder is made under a hidden name and renamed when it is whole, and hidden again before it is removed: what is hidden
at the daemon's start was cut off, and goes. No database is needed to find them again.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from volant.whole_file import flush, sweep_partial_files, write_whole_file

logger = logging.getLogger(__name__)

Record = TypeVar("Record", bound=BaseModel)


class FolderStore(Generic[Record]):
    """Blocking, and quick but for `take_away` and `sweep`. Each thing has an identity, the name of its folder."""

    def __init__(self, folder: Path, kind: type[Record], noun: str) -> None:
        self.folder = folder
        self._kind = kind
        self._noun = noun
        self._putting = threading.Lock()

    def find_place(self, identity: str) -> Path:
        """Where its files are once it is there."""
        return self.folder / identity

    def find_record(self, identity: str) -> Path:
        return self.folder / identity / f"{self._noun}.json"

    @contextmanager
    def draft(self, identity: str = "") -> Iterator[tuple[str, Path]]:
        """An identity and the hidden folder of what is to be; gone when it is left unless `put` came first."""
        identity = identity or secrets.token_hex(6)
        hidden = self.folder / f".{identity}"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(mode=0o700)
        try:
            yield identity, hidden
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def put(
        self, identity: str, record: Record, hidden: Path, check: Callable[[], object] = lambda: None
    ) -> None:
        """From now on it is there, a power cut or not, unless `check` raises: nobody else puts anything meanwhile."""
        write_whole_file(hidden / f"{self._noun}.json", record.model_dump_json().encode(), mode=0o600)
        # Requests have threads of their own.
        with self._putting:
            check()
            hidden.rename(self.find_place(identity))
        flush(self.folder)

    def write(self, identity: str, record: Record) -> None:
        """What it is now."""
        write_whole_file(self.find_record(identity), record.model_dump_json().encode(), mode=0o600)

    def read(self, identity: str) -> Record | None:
        """None where there is none such; one that cannot be read is told and is as none."""
        try:
            return self._kind.model_validate_json(self.find_record(identity).read_bytes())
        except FileNotFoundError:
            if not self.find_place(identity).is_dir():
                return None
            logger.error("the %s in %s has lost its description", self._noun, self.find_place(identity))
        except (OSError, ValidationError) as error:
            logger.error("the %s in %s cannot be read: %s", self._noun, self.find_place(identity), error)
        return None

    def read_all(self, order: Callable[[Record], object]) -> list[Record]:
        """All that can be read."""
        names = [place.name for place in self.folder.glob("[!.]*")] if self.folder.is_dir() else []
        found = [record for name in names if (record := self.read(name)) is not None]
        return sorted(found, key=order)  # type: ignore[arg-type]  # callers give what can be ordered

    def take_away(self, identity: str) -> None:
        """Nothing where there is none such. A draft of the same identity is another's work, and stays."""
        hidden = self.folder / f".{identity}-{secrets.token_hex(6)}"
        try:
            self.find_place(identity).rename(hidden)
        except FileNotFoundError:
            return
        flush(self.folder)
        shutil.rmtree(hidden)

    def list_hidden(self) -> list[Path]:
        """What a daemon that was killed has left."""
        return list(self.folder.glob(".*")) if self.folder.is_dir() else []

    def sweep(self) -> None:
        """At the daemon's start: what was cut off."""
        for place in self.list_hidden():
            shutil.rmtree(place, ignore_errors=True)
        if self.folder.is_dir():
            for place in self.folder.iterdir():
                sweep_partial_files(place)
