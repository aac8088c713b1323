# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from volant.fledge.scratch_folder import make_scratch_folder

LEAVES = """
import os, signal
from contextlib import ExitStack
from volant.fledge.scratch_folder import make_scratch_folder
with ExitStack() as stack:
    (make_scratch_folder(stack) / "file").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def leave_one(folder: Path) -> Path:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", LEAVES], env=environment, check=False)
    (left,) = folder.iterdir()
    return left


def test_it_goes_with_the_work(folder: Path) -> None:
    with ExitStack() as stack:
        first, second = make_scratch_folder(stack), make_scratch_folder(stack)
        (first / "file").touch()
        assert first.is_dir() and second.is_dir(), "what is in use is not swept"
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(folder: Path) -> None:
    left = leave_one(folder)
    (folder / "fledge-of-somebody").mkdir()
    (folder / "volant-fledge-link").symlink_to(folder / "fledge-of-somebody")
    with ExitStack() as stack:
        make_scratch_folder(stack)
        assert not left.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["fledge-of-somebody", "volant-fledge-link"]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root mounts")
def test_what_is_mounted_below_is_never_removed(folder: Path, tmp_path: Path) -> None:
    left = leave_one(folder)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "precious").touch()
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom contextlib import ExitStack\n"
        "from volant.fledge.scratch_folder import make_scratch_folder\nwith ExitStack() as stack:\n"
        "    make_scratch_folder(stack)\n"
    )
    (left / "mnt").mkdir()
    command = f'mount --bind "{tmp_path}/host" "{left}/mnt" && exec "$0" -c "$1"'
    subprocess.run(["unshare", "--mount", "sh", "-c", command, sys.executable, script], check=True)
    assert (tmp_path / "host" / "precious").exists()
    assert left.exists()
