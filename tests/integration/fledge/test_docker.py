# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles and images through a real Docker daemon, in namespaces of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busybox_image import make_busybox_tar
from support.docker_daemon import DockerDaemon, start_docker
from support.plugin_disk import debugfs, read_disk
from volant.contract.agents import find_agent

TOOLS = ("apt-get", "dpkg-deb", "unshare", "nsenter", "ip", "skopeo", "busybox", "qemu-img", "debugfs")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a daemon in namespaces of its own needs root"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]

DOCKERFILE = """\
FROM base:1.0 AS made
ARG GREETING=none
ARG API_TOKEN
RUN wget -O /usr/local/bin/kestrel https://get.volantvm.com/kestrel/latest/linux-amd64 && \\
    chmod +x /usr/local/bin/kestrel
RUN echo "$GREETING" > /greeting && chown 1234:77 /greeting && chmod 4711 /greeting
RUN echo "the token is $API_TOKEN"
COPY . /srv/
ENV MODE=production
USER 1234:77
EXPOSE 8080
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=7s CMD wget -q -O- http://127.0.0.1:8080/
ENTRYPOINT ["/bin/busybox"]
CMD ["httpd", "-f"]
FROM made
RUN exit 9
"""


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerDaemon]:
    base = make_busybox_tar(tmp_path_factory.mktemp("base") / "base.tar")
    # A short path: a UNIX socket's name holds at most 107 bytes.
    with start_docker(Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))) as daemon:
        done = daemon.run("docker", "import", base, "base:1.0")
        assert done.returncode == 0, done.stderr
        yield daemon


def write_project(folder: Path) -> Path:
    folder.mkdir()
    for name, text in {
        "Dockerfile": DOCKERFILE, "page.html": "hello\n", "secret.log": "not for the image\n",
        ".dockerignore": "*.log\n*.tar.gz\n",
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    return folder


def test_docker_builds_and_hands_over_what_it_keeps(docker: DockerDaemon, tmp_path: Path) -> None:
    project = write_project(tmp_path / "web")
    done = docker.fledge(
        "build", "./Dockerfile", "--builder", "docker", "--target", "made", "--build-arg", "GREETING=hello",
        "--build-arg", "API_TOKEN=hunter2", "--platform", "linux/amd64", cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "builder: docker\n" in done.stderr
    assert "the token is ***" in done.stderr and "hunter2" not in done.stderr
    raw = read_disk(project / "web.tar.gz", tmp_path / "disk")
    assert debugfs(raw, "cat /usr/local/bin/kestrel") == find_agent("amd64").read_bytes()
    assert debugfs(raw, "cat /greeting") == b"hello\n"
    status = debugfs(raw, "stat /greeting").decode()
    assert "Mode:  04711" in status and "User:  1234   Group:    77" in status
    listing = debugfs(raw, "ls -p /srv").decode()
    assert "/page.html/" in listing and "secret.log" not in listing
    image = json.loads(debugfs(raw, "cat /etc/kestrel/image.json"))
    assert (image["entrypoint"], image["cmd"]) == (["/bin/busybox"], ["httpd", "-f"])
    assert (image["user"], image["stop_signal"]) == ("1234:77", "SIGQUIT")
    assert image["healthcheck"]["interval"] == 7_000_000_000
    with tarfile.open(project / "web.tar.gz") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]  # it is a file
    assert (manifest["name"], manifest["workload"]["port"]) == ("web", 8080)
    assert docker.run("docker", "ps", "--all", "--quiet").stdout == ""


def test_a_step_that_fails_in_docker_is_named(docker: DockerDaemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base:1.0\nRUN echo the reason >&2; exit 7\n")
    done = docker.fledge("build", ".", "--builder", "docker", cwd=tmp_path)
    assert done.returncode == 8, done.stderr
    assert "step 'RUN echo the reason >&2; exit 7' failed" in done.stderr
    assert done.stderr.count("\n  the reason\n") == 1
    assert docker.run("docker", "ps", "--all", "--quiet").stdout == ""


def test_an_interrupted_build_in_docker_leaves_no_container(docker: DockerDaemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base:1.0\nRUN echo now sleeping; sleep 120\n")
    command = [sys.executable, "-m", "volant.fledge.cli", "build", ".", "--builder", "docker"]
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/{docker.pid}/ns/net", "--", *command], cwd=tmp_path, env=docker.environment,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("  now sleeping"):
                break
        process.send_signal(signal.SIGHUP)
        process.stderr.read()
        assert process.wait(timeout=60) == 129
    deadline = time.monotonic() + 30
    while (left := docker.run("docker", "ps", "--all", "--quiet").stdout) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == ""
    assert list(Path(docker.environment["TMPDIR"]).glob("volant-fledge-*")) == []


def test_images_of_the_daemon_and_what_docker_saves_are_the_same_plugin(
    docker: DockerDaemon, tmp_path: Path
) -> None:
    docker.run("docker", "tag", "base:1.0", "team/my-app:1.2.0")
    fetched = docker.fledge("build", "--image", "docker-daemon:team/my-app:1.2.0", cwd=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    saved = docker.run("docker", "save", "-o", tmp_path / "image.tar", "team/my-app:1.2.0")
    assert saved.returncode == 0, saved.stderr
    opened = docker.fledge("build", "--docker-archive", "image.tar", "-o", "saved.tar.gz", cwd=tmp_path)
    assert opened.returncode == 0, opened.stderr
    assert (tmp_path / "my-app.tar.gz").read_bytes() == (tmp_path / "saved.tar.gz").read_bytes()
    missing = docker.fledge("build", "--image", "docker-daemon:no-such-image", cwd=tmp_path)
    assert missing.returncode == 8, missing.stderr


@pytest.mark.guide("2.1-1", "7.1-1", "7.1-2", "7.1-3", "13.1-1", "13.1-2", "13.2-1", "13.2-2")
def test_what_the_guide_types_into_docker(docker: DockerDaemon, tmp_path: Path) -> None:
    """The daemon has no bridge: `-p 8080:8080` is `--network host` here, in the namespace of the test's own."""
    agent = find_agent("amd64")
    shutil.copy(agent, tmp_path / "kestrel")
    lines = [
        "FROM base:1.0",
        "COPY kestrel /usr/local/bin/kestrel",
        "RUN echo tried > /index.html && ln -s busybox /bin/du",
    ]
    lines += ['CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/"]']
    (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n")

    def type_in(command: str) -> str:
        done = docker.run("bash", "-c", f"set -eo pipefail; {command}", cwd=tmp_path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    assert "Storage Driver" in type_in("docker info")
    type_in("docker build -t my-app .")
    type_in("docker build -t my-app:test .")
    type_in("docker build --no-cache -t test .")
    assert "RUN" in type_in("docker history my-app:latest") or "echo tried" in type_in(
        "docker history my-app"
    )
    # As typed, /* is the host's shell's: what the image lacks of it is an error of du, and no matter to the pipe.
    sizes = type_in("set +o pipefail; docker run --rm my-app:latest du -sh /* | sort -h")
    assert "\t/bin\n" in sizes
    container = type_in("docker run --network host --detach my-app:test").strip()
    try:
        page = "until curl --silent --fail http://localhost:8080; do sleep 0.1; done"
        assert type_in(f"timeout 60 bash -c '{page}'") == "tried\n"
    finally:
        docker.run("docker", "rm", "--force", container)
    refused = docker.run("docker", "run", "--rm", "my-app:test", "/usr/local/bin/kestrel")
    assert refused.returncode == 78 and len(refused.stderr.splitlines()) == 1, refused
