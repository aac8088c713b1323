# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.oci_images import make_entry, make_layer, write_docker_archive
from volant.errors import ToolMissing
from volant.fledge import cli

pytestmark = pytest.mark.usefixtures("agent")
LAYER = make_layer(make_entry("app", content=b"x", mode=0o755))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def image(home: Path) -> Path:
    return write_docker_archive(home / "image.tar", [LAYER], config={"Cmd": ["/app"]}, tags=["app:1.0.0"])


def test_the_guides_command(image: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "build", "--docker-archive", "image.tar", "--output", "plugin.tar.gz")
    assert (code, out) == (0, "")
    assert "plugin.tar.gz: app 1.0.0, " in err
    assert (home / "plugin.tar.gz").is_file()


def test_quiet_says_nothing_and_json_says_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "build", "--docker-archive", "image.tar", "-q") == (0, "", "")
    code, _, err = run(
        capsys, "build", "--docker-archive", "image.tar", "--progress", "json", "--no-cache", "-o", "p"
    )
    assert code == 0
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in events[-2:]] == ["end", "built"]
    assert "step" in [event["event"] for event in events]
    assert (events[-1]["path"], events[-1]["name"], events[-1]["from_cache"]) == ("p", "app", False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["build"], 4, "error: cannot build: neither fledge.toml nor a Dockerfile"),
        (["build", "--docker-archive", "gone.tar"], 4, "error: cannot open gone.tar"),
        (["build", "--docker-archive", "a", "--image", "b"], 2, "two sources"),
        (["build", "--build-arg", "=x", "f"], 2, "no name in it"),
        (["build", "--build-arg", "NOT_SET", "f"], 2, "the environment has none"),
        (["build", "--format", "vhd"], 2, "Invalid value"),
        (["bulid"], 2, "No such command"),
        (["cache", "prune", "--keep", "some"], 2, "not a size"),
        (["inspect", "gone"], 2, "does not exist"),
        (["inspect", "/proc/version"], 3, "it is not a tar archive, or is cut short"),
        (["agent", "-o", "gone/kestrel"], 2, "error: cannot write gone/kestrel: no such folder"),
        (["agent", "-o", "."], 2, "error: cannot write .: it is a folder"),
        (["build", "--docker-archive", "image.tar", "-o", ".."], 2, "it is a folder"),
    ],
)
def test_errors_and_their_exit_codes(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    got, _, err = run(capsys, *arguments)
    assert got == code
    assert said in err
    assert list(home.iterdir()) == []


def test_build_arguments_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "value")
    assert cli._parse_build_args(("FROM_HERE", "A=b=c", "EMPTY=")) == {
        "FROM_HERE": "value",
        "A": "b=c",
        "EMPTY": "",
    }


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "٣", "9" * 20])
def test_a_date_that_is_none_is_told(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    code, _, err = run(capsys, "build", "--docker-archive", "image.tar")
    assert (code, "cannot use SOURCE_DATE_EPOCH=" in err) == (2, True)


def test_an_interruption_exits_130(
    image: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("volant.fledge.pipeline.merge_layers", interrupt)
    code, _, err = run(capsys, "build", "--docker-archive", "image.tar")
    assert code == 130
    assert "interrupted" in err
    assert [path.name for path in home.iterdir()] == ["image.tar"]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_leave_nothing_and_are_told_by_the_exit_code(
    image: Path, home: Path, name: str, code: int
) -> None:
    script = (
        "import os, signal, sys\nfrom volant.fledge import cli, pipeline\n"
        "def interrupt(*_):\n    os.kill(os.getpid(), getattr(signal, sys.argv.pop(1)))\n    signal.pause()\n"
        "pipeline.merge_layers = interrupt\ncli.main(sys.argv[2:])\n"
    )
    arguments = ["build", "--docker-archive", "image.tar"]
    ended = subprocess.run(
        [sys.executable, "-c", script, name, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        code, "error: interrupted: nothing was left behind"
    )  # fmt: skip
    assert [path.name for path in home.iterdir()] == ["image.tar"]


def test_a_hang_up_that_is_ignored_stays_ignored(image: Path, home: Path) -> None:
    script = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from volant.fledge import cli, pipeline\nmerge = pipeline.merge_layers\n"
        "def go_on(*given):\n    os.kill(os.getpid(), signal.SIGHUP)\n    return merge(*given)\n"
        "pipeline.merge_layers = go_on\ncli.main(sys.argv[1:])\n"
    )
    arguments = ["build", "--docker-archive", "image.tar", "-q"]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, timeout=60)
    assert (ended.returncode, (home / "app.tar.gz").is_file()) == (0, True)


def test_a_long_name_and_a_link_as_output(
    image: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "build", "--docker-archive", "image.tar", "-q", "-o", "n" * 250)[0] == 0
    (home / "link").symlink_to("real")
    assert run(capsys, "build", "--docker-archive", "image.tar", "-q", "-o", "link")[0] == 0
    assert (home / "link").is_symlink()
    assert (home / "real").read_bytes() == (home / ("n" * 250)).read_bytes()
    code, _, err = run(capsys, "build", "--docker-archive", "image.tar", "-o", "image.tar")
    assert (code, "error: cannot write image.tar: the build reads it" in err) == (2, True)
    assert (home / "image.tar").stat().st_size > 1000
    code, _, err = run(capsys, "agent", "-o", "-")
    assert (code, "cannot write to standard output" in err) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("command", [("agent",), ("build", "--docker-archive", "image.tar")])
def test_a_device_as_output_is_left_alone(
    image: Path, home: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    try:
        os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device nodes here")
    code, _, err = run(capsys, *command, "-o", "null")
    assert (code, "error: cannot write null: it is a device" in err) == (2, True)
    assert (home / "null").stat().st_mode == stat.S_IFCHR | 0o600


def test_a_full_disk_exits_9(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr("volant.fledge.pipeline.merge_layers", fail)
    code, _, err = run(capsys, "build", "--docker-archive", "image.tar")
    assert code == 9
    assert "no space left on the disk: /tmp/x" in err


def test_validate(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "Dockerfile").write_text("FROM debian\n")
    code, out, _ = run(capsys, "validate")
    assert (code, out.startswith("Dockerfile:1: warning:")) == (0, True)
    (home / "Dockerfile").write_text("FORM debian\n")
    code, out, _ = run(capsys, "validate", "--json")
    assert code == 3
    first = json.loads(out.splitlines()[0])
    assert (first["file"], first["line"], first["severity"]) == ("Dockerfile", 1, "error")


def test_init_agent_builder_cache_and_inspect(
    image: Path, agent: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "init", "new")[0] == 0
    assert (home / "new/fledge.toml").is_file()
    assert run(capsys, "init", "new")[0] == 5
    monkeypatch.setattr("volant.contract.agents.find_agent", lambda architecture: agent)
    assert run(capsys, "agent", "-o", "k", "--arch", "arm64")[0] == 0
    assert (home / "k").stat().st_mode & 0o777 == 0o755
    assert run(capsys, "build", "--docker-archive", "image.tar", "-q")[0] == 0
    assert "removed 0 plugins" in run(capsys, "cache", "prune", "--keep", "2gb")[1]
    code, out, _ = run(capsys, "cache", "list")
    assert (code, "app 1.0.0" in out) == (0, True)
    assert "removed 1 plugin, " in run(capsys, "cache", "prune", "--keep", "0")[1]
    assert "biggest paths" in run(capsys, "inspect", "app.tar.gz")[1]

    def none(*_: object) -> None:
        raise ToolMissing("cannot build the Dockerfile: no image builder answers")

    monkeypatch.setattr("volant.fledge.builders.find_builder", none)
    assert run(capsys, "builder")[0] == 7


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    assert "_FLEDGE_COMPLETE" in out


def test_every_command_has_help_with_examples_where_they_matter(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.fledge.commands:
        assert run(capsys, name, "--help")[0] == 0
    assert "fledge build --docker-archive image.tar --output plugin.tar.gz" in run(capsys, "build", "-h")[1]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, volant.fledge.cli; print([m for m in ('pydantic', 'rich', 'zstandard') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
