# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.remembering_monitor import RememberingMonitor
from volant.contract.image_config import ImageConfig
from volant.errors import InvalidInput
from volant.filesystems.filetree import FileTree
from volant.fledge.guest import check_guest, check_kestrel_config, install_guest
from volant.fledge.local_files import LocalFiles


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def config(**fields: Any) -> ImageConfig:
    return ImageConfig.model_validate(fields)


def test_an_empty_image_becomes_bootable(agent: Path, stack: ExitStack, monitor: RememberingMonitor) -> None:
    tree = FileTree()
    image = config(cmd=["/app"], volumes=["/data"], working_dir="/work/here", exposed_ports=["80/tcp"])
    install_guest(tree, image, agent, (), 5, stack, monitor)
    kestrel = tree.find("/usr/local/bin/kestrel")
    assert kestrel is not None
    assert tree.mode[kestrel] == stat.S_IFREG | 0o755
    assert tree.read(kestrel) == agent.read_bytes()
    for path in ("/dev", "/proc", "/sys", "/run", "/tmp", "/etc", "/data", "/work/here"):
        node = tree.find(path)
        assert node is not None, path
        assert tree.is_directory(node), path
    assert stat.S_IMODE(tree.mode[tree.find("/tmp")]) == 0o1777  # type: ignore[index]
    written = json.loads(tree.read(tree.find("/etc/kestrel/image.json")))  # type: ignore[arg-type]
    assert written == {
        "cmd": ["/app"], "volumes": ["/data"], "working_dir": "/work/here", "exposed_ports": ["80/tcp"],
    }  # fmt: skip
    assert ImageConfig.model_validate(written) == image
    assert not monitor.lines


def test_the_images_own_agent_stays_only_if_it_is_the_same(
    agent: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    tree = FileTree()
    LocalFiles(tree, stack, 1).add_bytes("/usr/local/bin/kestrel", agent.read_bytes(), 0o600)
    before = tree.find("/usr/local/bin/kestrel")
    install_guest(tree, config(), agent, (), 0, stack, monitor)
    assert tree.find("/usr/local/bin/kestrel") == before
    assert tree.mode[before] & 0o555 == 0o555  # type: ignore[index]
    assert not monitor.lines

    LocalFiles(tree, stack, 1).add_bytes("/usr/local/bin/kestrel", b"another build")
    install_guest(tree, config(), agent, (), 0, stack, monitor)
    assert tree.read(tree.find("/usr/local/bin/kestrel")) == agent.read_bytes()  # type: ignore[arg-type]
    assert "another build of the agent: replaced" in monitor.text


def test_folders_of_the_image_keep_their_modes(
    agent: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/tmp/x", b"")
    tree.mode[tree.find("/tmp")] = stat.S_IFDIR | 0o700  # type: ignore[index]
    install_guest(tree, config(volumes=["/tmp"]), agent, (), 0, stack, monitor)
    assert stat.S_IMODE(tree.mode[tree.find("/tmp")]) == 0o700  # type: ignore[index]


def test_mappings_lie_on_top_of_the_image(
    agent: Path, home: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    (home / "own.yaml").write_text("exec: []\n")
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/etc/kestrel/config.yaml", b"of the image")
    mapping = ((home / "own.yaml", "/etc/kestrel/config.yaml"),)
    install_guest(tree, config(), agent, mapping, 0, stack, monitor)
    assert tree.read(tree.find("/etc/kestrel/config.yaml")) == b"exec: []\n"  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [["/init", "serve"], ["/opt/systemd"]])
def test_a_command_that_may_want_to_be_process_1_is_warned_of(
    command: list[str], monitor: RememberingMonitor
) -> None:
    check_guest(FileTree(), config(cmd=command), [], monitor)
    assert f"warning: the image's command {command[0]} may want to be process 1" in monitor.text
    assert "init: true" in monitor.text


@pytest.mark.parametrize("command", ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"])
def test_an_init_that_the_agent_knows_is_not_warned_of(command: str, monitor: RememberingMonitor) -> None:
    check_guest(FileTree(), config(cmd=[command]), [], monitor)
    assert not monitor.lines


def test_a_command_in_a_process_space_of_its_own_is_not_warned_of(monitor: RememberingMonitor) -> None:
    check_guest(FileTree(), config(cmd=["/init"]), ["unshare", "--pid", "--fork", "/init"], monitor)
    check_guest(FileTree(), config(entrypoint=["/tini", "--"], cmd=["/app/init-db"]), [], monitor)
    assert not monitor.lines


def test_nothing_to_run_and_an_unknown_user_are_warned_of(
    agent: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    tree = FileTree()
    check_guest(tree, config(user="app"), [], monitor)
    assert "warning: the image has no command" in monitor.text
    assert "warning: USER app is not in" in monitor.text
    monitor.lines.clear()
    LocalFiles(tree, stack, 0).add_bytes("/etc/passwd", b"root:x:0:0::/:\napp:x:5:5::/:\n")
    check_guest(tree, config(user="app:staff", cmd=["/app"]), [], monitor)
    check_guest(tree, config(user="1000:1000"), ["/other"], monitor)
    assert not monitor.lines


def test_a_config_that_the_agent_refuses_ends_the_build(
    agent: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    agent.write_text(
        '#!/bin/sh\ntest "$1" = check-config || exit 2\n'
        'echo \'{"file":"x","line":3,"column":5,"message":"unknown key comand","resolution":"command?"}\'\nexit 1\n'
    )
    found = check_kestrel_config(b"exec:\n", "k.yaml")
    assert found is not None
    (problem,) = found
    assert str(problem) == "k.yaml:3:5: unknown key comand (command?)"
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/etc/kestrel/config.yaml", b"exec:\n")
    with pytest.raises(InvalidInput, match=r"cannot use the image's /etc/kestrel/config\.yaml: one problem"):
        check_guest(tree, config(), [], monitor)


def test_a_config_that_cannot_be_checked_is_said(
    agent: Path, stack: ExitStack, monitor: RememberingMonitor
) -> None:
    agent.write_text("#!/bin/sh\nexit 2\n")
    assert check_kestrel_config(b"", "k.yaml") is None
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/etc/kestrel/config.yaml", b"exec: []\n")
    check_guest(tree, config(), [], monitor)
    assert "was not checked: the agent of this installation cannot be run" in monitor.text
