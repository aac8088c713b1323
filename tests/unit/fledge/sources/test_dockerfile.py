# SPDX-License-Identifier: Apache-2.0
"""What the builder is given: the Dockerfile as typed, but for the agent's address."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from support.remembering_monitor import RememberingMonitor
from volant.errors import NotFound
from volant.fledge import agent_server
from volant.fledge.builders import Builder, BuildRequest
from volant.fledge.builders.containers import Podman
from volant.fledge.order import DockerfileSource
from volant.fledge.sources import dockerfile as module
from volant.fledge.sources.dockerfile import build_dockerfile

DOWNLOAD = "FROM x\nRUN wget -O /k https://get.volantvm.com/kestrel/latest/linux-amd64\n"


class FakeBuilder:
    """Remembers what it was asked for, and the text of the Dockerfile it was given."""

    def __init__(self) -> None:
        self.request: BuildRequest | None = None
        self.text = ""
        self.ignored = ""
        self.context_files: list[str] = []

    def make_image(self, builder: Builder, request: BuildRequest, folder: Path, monitor: object) -> str:
        self.request = request
        self.text = request.dockerfile.read_text()
        beside = request.dockerfile.with_name(request.dockerfile.name + ".dockerignore")
        self.ignored = beside.read_text() if beside.exists() else ""
        self.context_files = [
            str(path) for context in request.extra_contexts.values() for path in context.iterdir()
        ]
        return "sha256:1"

    def export_image(self, builder: Builder, image_id: str, target: Path, monitor: object) -> None:
        target.write_text(image_id)


@pytest.fixture
def builder(agent: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBuilder:
    fake = FakeBuilder()
    monkeypatch.setattr(agent_server, "FIRST_PORT", 27177)
    monkeypatch.setattr(
        module, "find_builder", lambda *_, **__: Podman("/bin/podman", "docker: not installed")
    )
    monkeypatch.setattr(module, "make_image", fake.make_image)
    monkeypatch.setattr(module, "export_image", fake.export_image)
    return fake


def write(home: Path, text: str) -> DockerfileSource:
    (home / "Dockerfile").write_text(text)
    return DockerfileSource(home / "Dockerfile", home)


def test_a_dockerfile_without_the_download_is_passed_as_it_is(
    home: Path, builder: FakeBuilder, monitor: RememberingMonitor
) -> None:
    source = write(home, "FROM x\nRUN true\n")
    with ExitStack() as stack:
        built = build_dockerfile(source, stack, monitor)
        assert built.image_id == "sha256:1"
        archive = built.export()
        assert archive.read_text() == "sha256:1"
    assert not archive.exists()
    assert builder.request is not None
    assert builder.request.dockerfile == home / "Dockerfile"
    assert not builder.request.host_network
    assert "builder: podman (docker: not installed)" in monitor.lines


def test_the_download_is_answered_by_fledge(
    home: Path, builder: FakeBuilder, monitor: RememberingMonitor
) -> None:
    source = write(home, DOWNLOAD)
    (home / "Dockerfile.dockerignore").write_text("*.log\n")
    with ExitStack() as stack:
        build_dockerfile(source, stack, monitor)
        assert builder.request is not None
        assert builder.request.host_network
        assert builder.request.context == home
        assert builder.text.startswith("FROM x\nRUN wget -O /k http://127.0.0.1:27177/")
        assert builder.ignored == "*.log\n"
        assert builder.request.ignore_file == home / "Dockerfile.dockerignore"
    assert source.path.read_text() == DOWNLOAD
    said = [line for line in monitor.lines if "get.volantvm.com" in line]
    assert said == [
        "Dockerfile: the agent comes from this fledge (127.0.0.1:27177), not from get.volantvm.com"
    ]


def test_an_ignore_file_is_put_in_the_builders_way_only_where_it_must(
    home: Path, builder: FakeBuilder, monitor: RememberingMonitor
) -> None:
    (home / ".dockerignore").write_text("*.log\n")
    with ExitStack() as stack:
        build_dockerfile(write(home, "FROM x\n"), stack, monitor)
        assert builder.request is not None
        assert builder.request.ignore_file is None
    (home / ".dockerignore").write_bytes(b"\xef\xbb\xbf*.log\n")
    with ExitStack() as stack:
        build_dockerfile(write(home, "FROM x\n"), stack, monitor)
        assert builder.request.ignore_file is not None
        assert builder.request.ignore_file.read_bytes() == b"*.log\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM x\nCOPY --from=kestrel /kestrel /usr/local/bin/kestrel\n", True),
        ("FROM x\nRUN --mount=type=bind,from=kestrel,target=/k cp /k/kestrel /bin\n", True),
        ("FROM y AS kestrel\nFROM x\nCOPY --from=kestrel /kestrel /k\n", False),
        ("FROM x\nCOPY --from=kestrels /kestrel /k\n", False),
    ],
)
def test_a_context_named_kestrel(
    home: Path, builder: FakeBuilder, monitor: RememberingMonitor, text: str, wanted: bool
) -> None:
    with ExitStack() as stack:
        build_dockerfile(replace(write(home, text), platform="linux/arm64"), stack, monitor)
        assert [Path(file).name for file in builder.context_files] == (["kestrel"] if wanted else [])


def test_what_is_missing_is_named(home: Path, builder: FakeBuilder, monitor: RememberingMonitor) -> None:
    with ExitStack() as stack, pytest.raises(NotFound, match="cannot build gone: no such file"):
        build_dockerfile(DockerfileSource(home / "gone", home), stack, monitor)
    with ExitStack() as stack, pytest.raises(NotFound, match="no such folder: nowhere"):
        build_dockerfile(replace(write(home, "FROM x"), context=home / "nowhere"), stack, monitor)
    assert builder.request is None
