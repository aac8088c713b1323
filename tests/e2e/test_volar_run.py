# SPDX-License-Identifier: Apache-2.0
"""volar run and what leads into its VMs, with real ones: an image of nothing but busybox, built by fledge."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.busybox_image import make_busybox_tar
from support.host import Host, wait_until

SAYS_HELLO = 'echo "hello from $(cat /proc/sys/kernel/hostname), $WHO"; exit 3'


def write_folder(folder: Path, *lines: str) -> Path:
    folder.mkdir()
    make_busybox_tar(folder / "busybox.tar")
    (folder / "Dockerfile").write_text("\n".join(["FROM scratch", "ADD busybox.tar /", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = SAYS_HELLO.replace('"', '\\"')
    return write_folder(tmp_path_factory.mktemp("run") / "hello", f'CMD ["/bin/sh", "-c", "{command}"]')


def test_a_folder_runs_in_one_line_and_its_exit_code_is_volars(host: Host, hello: Path) -> None:
    done = host.volar("run", "--rm", "--name", "greeter", "-e", "WHO=a test", str(hello), check=False)
    assert (done.returncode, done.stdout) == (3, "hello from greeter, a test\n"), done.stderr
    assert host.volar("get", "greeter", check=False).returncode == 4


def test_ctrl_c_stops_it_in_order_and_a_command_takes_the_place_of_the_images(host: Host) -> None:
    says = "echo asleep as $(id -u) in $(pwd) on $(cat /proc/sys/kernel/hostname), beside $(grep peer /etc/hosts); "
    line = [
        "volar", "run", "--name", "sleeper", "-u", "65534", "-w", "/bin", "--hostname", "elsewhere", "--add-host",
        "peer:10.9.8.7", "hello", "--", "/bin/sh", "-c", f"{says} sleep 1000",
    ]  # fmt: skip
    running = subprocess.Popen(
        line,
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "asleep as 65534 in /bin on elsewhere, beside 10.9.8.7 peer\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert host.vm("sleeper")["status"] == "stopped"
    assert "poweroff" in host.volar("logs", "sleeper", "--console").stdout, "it was not switched off"
    host.volar("rm", "vm/sleeper")


@pytest.mark.parametrize(
    ("on_sigterm", "said", "exit_code"),
    [("echo told >&2; exit 7", "told\n", 7), ("", "", 143)],
    ids=["by itself", "killed"],
)
def test_for_a_batch_engine_all_is_on_stdout_and_sigterm_ends_it_in_order(
    host: Host, on_sigterm: str, said: str, exit_code: int
) -> None:
    script = f"trap '{on_sigterm}' TERM; echo begun; while :; do sleep 1000 & wait; done"
    line = [
        "volar", "run", "--foreground", "--rm", "--name", "batch", "--stop-timeout", "2", "hello", "--",
        "/bin/sh", "-c", script,
    ]  # fmt: skip
    with subprocess.Popen(line, env=host.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(signal.SIGTERM)
        rest, _ = running.communicate(timeout=120)
    assert (running.returncode, rest) == (exit_code, said)
    assert host.volar("get", "batch", check=False).returncode == 4


@pytest.fixture(scope="module")
def elsewhere(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `volar run -d` says of a server that listens on another port than the image names; the VM stays."""
    folder = write_folder(
        tmp_path_factory.mktemp("run") / "elsewhere",
        "EXPOSE 80",
        'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080"]',
    )
    line = ["volar", "run", "-d", "--timeout", "3600", str(folder)]
    waiting = subprocess.Popen(line, env=host.environment, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    said = ""
    while "fails" not in said and (text := waiting.stderr.readline()):
        said += text
    assert waiting.poll() is None, f"it goes on waiting: {said}"
    waiting.kill()
    waiting.communicate(timeout=60)
    yield said
    host.volar("rm", "-f", "elsewhere", check=False)


def test_a_wrong_port_is_told_at_once_with_the_one_that_is_open(host: Host, elsewhere: str) -> None:
    assert "nothing listens on port 80, but port 8080 is open" in elsewhere
    # The check that failed first was told before the VM counted as running.
    wait_until("it to run", lambda: host.vm("elsewhere")["status"] == "running")


@pytest.mark.usefixtures("elsewhere")
def test_exec_takes_folder_and_variables(host: Host) -> None:
    line = ["exec", "-w", "/usr/local", "-e", "A=b c", "elsewhere", "--", "sh", "-c", 'pwd; echo "$A"']
    assert host.volar(*line).stdout == "/usr/local\nb c\n"


@pytest.mark.usefixtures("elsewhere")
def test_a_shell_has_a_terminal_of_this_ones_size_and_its_exit_code_is_volars(host: Host) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 99))
    os.set_blocking(ours, False)
    line = ["volar", "exec", "-it", "elsewhere", "sh"]
    shell = subprocess.Popen(line, env=host.environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""

    def hears(word: bytes) -> bool:
        nonlocal said
        with suppress(BlockingIOError):
            said += os.read(ours, 4096)
        return word in said

    try:
        wait_until("a prompt", lambda: hears(b"# "))
        os.write(ours, b"busybox stty size; busybox test -t 0 && echo typed-$((6*7))\n")
        wait_until("its answer", lambda: hears(b"typed-42"))
        assert b"33 99" in said
        os.write(ours, b'echo be"gun"; sleep 1000\n')
        wait_until("its sleep", lambda: hears(b"begun"))
        os.write(ours, b"\x03")  # ends the program there, and nothing here
        os.write(ours, b"exit 5\n")
        assert shell.wait(60) == 5, said
    finally:
        shell.kill()
        os.close(ours)


@pytest.mark.usefixtures("elsewhere")
def test_ssh_config_serves_programs_that_know_nothing_of_volar(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(host.volar("ssh-config", "elsewhere").stdout)
    done = host.run("ssh", "-F", str(config), "elsewhere", "echo in")
    assert done.stdout == "in\n"
    wrong = config.read_text().replace("--host-key", "--authorize")
    config.write_text(wrong)
    refused = host.run("ssh", "-F", str(config), "elsewhere", "echo in", check=False)
    assert refused.returncode == 255, "a host key that nobody vouches for"


@pytest.mark.usefixtures("elsewhere")
def test_what_it_uses_is_shown_in_a_table(host: Host) -> None:
    heading, *rows = host.volar("stats", "--no-stream").stdout.splitlines()
    row = next(row for row in rows if row.startswith("elsewhere"))
    assert heading.split()[0] == "NAME"
    assert row.split()[:2] == ["elsewhere", "running"]
    assert " of " in row


@pytest.mark.usefixtures("elsewhere")
def test_a_killed_ssh_leaves_no_traceback(host: Host) -> None:
    session = subprocess.Popen(
        ["volar", "exec", "elsewhere", "--", "sh", "-c", "echo ready; sleep 1000"],
        env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert session.stdout is not None
    assert session.stdout.readline() == "ready\n"
    children = Path(f"/proc/{session.pid}/task/{session.pid}/children")
    (ssh,) = [int(word) for word in wait_until("ssh", lambda: children.read_text().split())]
    subprocess.run(["kill", "-KILL", str(ssh)], check=True)
    _, errors = session.communicate(timeout=60)
    assert session.returncode == 137
    assert "Traceback" not in errors
