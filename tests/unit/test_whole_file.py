# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from volant.errors import NotPermitted
from volant.whole_file import WholeFile, sweep_partial_files, write_whole_file


def test_a_file_appears_when_it_is_published(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("older")
    with WholeFile(target) as file:
        os.write(file.descriptor, b"newer")
        assert target.read_text() == "older"
        file.publish()
        assert target.read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WholeFile(tmp_path / "file") as file:
        os.write(file.descriptor, b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "wanted"), [(0o666, 0o640), (0o755, 0o750), (0o600, 0o600)])
def test_the_umask_counts(tmp_path: Path, mode: int, wanted: int) -> None:
    before = os.umask(0o027)
    try:
        write_whole_file(tmp_path / "file", b"x" * 100_000, mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == wanted
    assert (tmp_path / "file").stat().st_size == 100_000


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    write_whole_file(tmp_path / ("n" * 255), b"content")
    with pytest.raises(OSError, match="File name too long"):
        write_whole_file(tmp_path / ("n" * 256), b"content")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, signal\nfrom pathlib import Path\nfrom volant.whole_file import WholeFile\n"
        "with WholeFile(Path(sys.argv[1])) as file:\n    print('writing', flush=True)\n    signal.pause()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        sweep_partial_files(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1, "its writer lives"
        writer.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 1, "nobody could clean up"
    write_whole_file(tmp_path / "another", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_only_regular_files_of_our_own_are_swept(tmp_path: Path) -> None:
    kept = [
        tmp_path / ".volant-x.partial.txt",
        tmp_path / "volant-x.partial",
        tmp_path / ".volant-dir.partial",
    ]
    kept[0].touch()
    kept[1].touch()
    kept[2].mkdir()
    os.mkfifo(tmp_path / ".volant-fifo.partial")
    (tmp_path / ".volant-link.partial").symlink_to(kept[0])
    sweep_partial_files(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        write_whole_file(tmp_path / "missing" / "p", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NotPermitted):
        write_whole_file(tmp_path / "p", b"")
