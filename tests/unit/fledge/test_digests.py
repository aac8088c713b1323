# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.fledge.digests import DigestChecks, check_bytes, parse_digest

CONTENT = os.urandom(3 << 20)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_ranges_are_checked_in_the_background(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"##" + CONTENT)
    digest = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    with path.open("rb") as file, DigestChecks() as checks:
        checks.add("whole", digest, file.fileno(), 2, len(CONTENT))
        checks.verify()
        checks.add("shifted", digest, file.fileno(), 1, len(CONTENT))
        checks.add("too short", digest, file.fileno(), 2, len(CONTENT) + 1000)
        checks.verify_only("whole")
        with pytest.raises(InvalidInput, match="shifted") as caught:
            checks.verify()
    assert f"expected {digest}" in str(caught.value)


def test_small_documents_are_checked_at_once() -> None:
    check_bytes("it", b"x", "sha256:" + hashlib.sha256(b"x").hexdigest())
    with pytest.raises(InvalidInput, match="it: its content"):
        check_bytes("it", b"y", "sha256:" + hashlib.sha256(b"x").hexdigest())


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../x",
        "sha256:" + "G" * 64,
        "md5:" + "0" * 32,
        "sha512:" + "0" * 64,
        None,
    ],
)
def test_what_is_no_digest(digest: object) -> None:
    with pytest.raises(InvalidInput):
        parse_digest(digest)


def test_leaving_stops_what_still_runs() -> None:
    before = threading.active_count()
    with Path("/dev/zero").open("rb") as endless:
        with DigestChecks(workers=1) as checks:
            for number in range(50):
                checks.add(str(number), "sha256:" + "0" * 64, endless.fileno(), 0, 1 << 60)
        assert threading.active_count() == before


def test_whoever_waits_does_what_nobody_has_begun(tmp_path: Path) -> None:
    """One thread is kept busy; the checks behind it are done by the one that asks, and the first failure is told."""
    path = tmp_path / "layers"
    path.write_bytes(b"content")
    good = "sha256:" + hashlib.sha256(b"content").hexdigest()
    done: list[tuple[str, str]] = []
    begun, release = threading.Event(), threading.Event()

    class Watched(DigestChecks):
        def _check(self, what: str, *given: Any) -> None:
            if what == "busy":
                begun.set()
                release.wait(30)
            done.append((what, threading.current_thread().name))
            if len(done) == 3:
                release.set()
            super()._check(what, *given)

    with path.open("rb") as file, Watched(1) as checks:
        checks.add("busy", good, file.fileno(), 0, 7)
        checks.add("wrong", "sha256:" + "0" * 64, file.fileno(), 0, 7)
        checks.add("wrong too", "sha256:" + "1" * 64, file.fileno(), 0, 7)
        checks.add("good", good, file.fileno(), 0, 7)
        begun.wait(30)
        with pytest.raises(InvalidInput, match="cannot use wrong:"):
            checks.verify()
    assert [what for what, _ in done] == ["good", "wrong too", "wrong", "busy"]
    assert {thread for _, thread in done[:3]} == {threading.main_thread().name}
