# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles through the real podman and buildah, in a store of the test's own, checked with other people's tools."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builder_store import Store, make_store, remove_store, write_project
from support.plugin_disk import debugfs, read_disk
from volant.contract.agents import find_agent

TOOLS = ("podman", "buildah", "busybox", "qemu-img", "debugfs", "e2fsck")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the store of the test's own needs root"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = make_store(tmp_path_factory.mktemp("store") / "s")
    yield made
    remove_store(made)


@pytest.mark.parametrize("builder", ["podman", "buildah"])
@pytest.mark.guide("3.2-2", "4.1-3", "6-4", "11-3")
def test_a_dockerfile_with_everything(store: Store, tmp_path: Path, builder: str) -> None:
    project = write_project(tmp_path / "project")
    done = store.fledge(
        "build", "--builder", builder, "--build-arg", "GREETING=from the command line", cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert "Dockerfile: the agent comes from this fledge (127.0.0.1:" in done.stderr
    raw = read_disk(project / "web.tar.gz", tmp_path / "disk")
    agent = find_agent("amd64").read_bytes()
    assert debugfs(raw, "cat /usr/local/bin/kestrel") == agent
    assert debugfs(raw, "cat /opt/agent") == agent
    assert debugfs(raw, "cat /greeting") == b"from the command line\n"
    status = debugfs(raw, "stat /greeting").decode()
    assert "Mode:  04711" in status
    assert "User:  1234   Group:    77" in status
    assert "Mode:  0755" in debugfs(raw, "stat /usr/local/bin/extra").decode()
    listing = debugfs(raw, "ls -p /srv").decode()
    assert "/page.html/" in listing
    assert "/work/" in listing
    assert "secret.log" not in listing
    image = json.loads(debugfs(raw, "cat /etc/kestrel/image.json"))
    assert image["entrypoint"] == ["/bin/busybox"]
    assert image["cmd"] == ["httpd", "-f"]
    assert "MODE=production" in image["env"]
    assert (image["working_dir"], image["user"], image["stop_signal"]) == ("/srv/work", "1234:77", "SIGQUIT")
    assert image["volumes"] == ["/data"]
    assert image["healthcheck"]["test"][0] == "CMD-SHELL"
    assert (image["healthcheck"]["interval"], image["healthcheck"]["retries"]) == (7_000_000_000, 4)
    manifest = json.loads((tmp_path / "disk/manifest.json").read_text())
    assert manifest["workload"]["port"] == 8080
    assert manifest["labels"] == {}
    assert store.debris() == []


def test_what_has_not_changed_comes_from_the_caches(store: Store, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    first = store.fledge("build", "--builder", "buildah", "-o", "first.tar.gz", cwd=project)
    second = store.fledge("build", "--builder", "buildah", "-o", "second.tar.gz", cwd=project)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "comes from the cache" in second.stderr
    assert (project / "first.tar.gz").read_bytes() == (project / "second.tar.gz").read_bytes()


def test_a_failing_step_is_shown_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    for builder in ("podman", "buildah"):
        folder = tmp_path / builder
        folder.mkdir()
        (folder / "Dockerfile").write_text(
            "FROM localhost/base:1.0\nARG API_TOKEN\nRUN echo the reason of $API_TOKEN >&2; exit 7\n"
        )
        done = store.fledge(
            "build", ".", "--builder", builder, "--build-arg", "API_TOKEN=hunter2", cwd=folder
        )
        assert done.returncode == 8, done.stderr
        error = done.stderr.partition("error: ")[2]
        assert "step 'RUN echo the reason of $API_TOKEN >&2; exit 7' failed" in error
        assert "\n  the reason of ***\n" in done.stderr
        assert done.stderr.count("the reason of ***") == 1
        assert "hunter2" not in done.stderr
        assert [path.name for path in folder.iterdir()] == ["Dockerfile"]
        assert store.debris() == []


@pytest.mark.parametrize("builder", ["podman", "buildah"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(store: Store, tmp_path: Path, builder: str, number: int) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM localhost/base:1.0\nRUN echo https://get.volantvm.com/kestrel/latest/linux-amd64 {number}\n"
        f"RUN echo now sleeping {builder} {number}; sleep 120\n"
    )
    command = [sys.executable, "-m", "volant.fledge.cli", "build", ".", "--builder", builder]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=store.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("  now sleeping"):
                break
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 128 + number
    assert "interrupted: nothing was left behind" in rest
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"]
    deadline = time.monotonic() + 10
    while store.debris() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.debris() == []


@pytest.mark.guide("2.2-1", "2.2-2", "2.2-3")
def test_podman_builds_and_saves_and_fledge_goes_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        'FROM localhost/base:1.0\nCOPY page.html /srv/\nCMD ["/bin/busybox"]\n'
    )
    (tmp_path / "page.html").write_text("hello\n")
    for command in ("podman build -t my-app .", "podman save -o image.tar my-app"):
        done = store.run(*command.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = store.fledge("build", "--docker-archive", "image.tar", "--output", "plugin.tar.gz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    raw = read_disk(tmp_path / "plugin.tar.gz", tmp_path / "disk")
    assert debugfs(raw, "cat /srv/page.html") == b"hello\n"
    assert json.loads((tmp_path / "disk/manifest.json").read_text())["name"] == "my-app"
