# SPDX-License-Identifier: Apache-2.0
"""Programs are started with what they may see, and end as errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volant.errors import ToolFailed, ToolMissing
from volant.process import (
    describe_command,
    read_command,
    run_in_terminal,
    run_tool,
    start_detached,
    start_tool,
)

PYTHON = sys.executable


def test_a_tool_sees_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SETTING", "of a developer's shell")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    code = (
        "import os, sys; print(os.environ.get('SOME_SETTING'), os.environ['LC_ALL'], sys.stdin.read() == '')"
    )
    assert run_tool([PYTHON, "-c", code]).stdout == "None C.UTF-8 True\n"


def test_a_failure_tells_the_last_words_and_the_command_without_its_secrets() -> None:
    code = "import sys; sys.exit('no such thing')"
    with pytest.raises(ToolFailed, match="cannot make tea") as caught:
        run_tool([PYTHON, "-c", code, "hunter2"], what="make tea", secrets=["hunter2"])
    assert caught.value.details[0] == "no such thing"
    assert "***" in caught.value.details[-1]
    assert "hunter2" not in "".join(caught.value.details)


def test_lines_are_handed_over_from_both_streams() -> None:
    seen: list[str] = []
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    run_tool([PYTHON, "-c", code], on_line=seen.append)
    assert seen == ["out", "err"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_thread_started_that_nobody_waits_for_ends_with_us() -> None:
    code = """if True:
        import threading
        from volant.process import start_tool

        def run() -> None:
            with start_tool(["sleep", "3600"]) as process:
                print(process.pid, flush=True)
                is_started.set()
                process.wait()

        is_started = threading.Event()
        threading.Thread(target=run, daemon=True).start()
        is_started.wait()
    """
    pid = int(run_tool([PYTHON, "-c", code]).stdout)
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_missing_tool_is_named_however_it_is_started(tmp_path: Path) -> None:
    command = ["/nowhere/no-such-tool"]
    with pytest.raises(ToolMissing, match="no-such-tool"):
        run_tool(command)
    with pytest.raises(ToolMissing, match="no-such-tool"):
        start_detached(command, tmp_path / "log")
    with pytest.raises(ToolMissing, match="no-such-tool"):
        run_in_terminal(command)


def test_leaving_early_ends_the_whole_group() -> None:
    child = "print(1, flush=True); import time; time.sleep(99)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with start_tool([PYTHON, "-c", code]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        group = process.pid
    while is_group_alive(group):  # the grandchild is reaped by somebody else, a moment later
        time.sleep(0.01)


def is_group_alive(group: int) -> bool:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def test_a_program_in_the_terminal_has_our_streams_and_environment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "yes")
    code = "import os; print(os.environ['KEPT'], os.environ['ADDED']); raise SystemExit(7)"
    assert run_in_terminal([PYTHON, "-c", code], env={"ADDED": "too"}) == 7
    assert capfd.readouterr().out == "yes too\n"
    assert run_in_terminal([PYTHON, "-c", "import os; os.kill(os.getpid(), 15)"]) == 143


@pytest.mark.parametrize("inherit", [False, True])
def test_a_detached_program_has_a_session_of_its_own(
    inherit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SETTING", "ours")
    log = tmp_path / "log"
    code = "import os; print(os.getsid(0) == os.getpid(), 'SOME_SETTING' in os.environ)"
    os.waitpid(start_detached([PYTHON, "-c", code], log, inherit=inherit), 0)
    assert log.read_text() == f"True {inherit}\n"


def test_a_detached_program_gets_none_of_our_descriptors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid = start_detached([PYTHON, "-c", "import os; print(os.listdir('/proc/self/fd'), flush=True)"], log)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    # The fourth is the listing's own.
    assert log.read_text() == "['0', '1', '2', '3']\n"


def test_a_pipe_of_the_caller_ends_while_the_detached_program_runs(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid = start_detached([PYTHON, "-c", "import time; time.sleep(300)"], tmp_path / "log")
    try:
        os.close(writer)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_command_can_be_pasted() -> None:
    assert describe_command(["echo", "it's", "pass"], secrets=["pass", ""]) == """echo 'it'"'"'s' ***"""


def test_a_process_that_becomes_another_program_is_waited_for_and_a_zombie_is_not() -> None:
    # Between fork and exec it still has our command line, in exec none, afterwards its own.
    for _ in range(50):
        with subprocess.Popen(["sleep", "60"]) as process:
            assert read_command(process.pid) == b"sleep\x0060\x00"
            process.kill()
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read_command(process.pid) == b""
    with pytest.raises(OSError, match=r"No such|cmdline"):
        read_command(process.pid)
