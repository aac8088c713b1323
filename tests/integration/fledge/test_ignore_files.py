# SPDX-License-Identifier: Apache-2.0
"""What an ignore file keeps out: podman, buildah and docker beside the rule that `fledge validate` goes by."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.builder_store import Store, make_store, remove_store
from support.docker_daemon import start_docker
from support.ignore_cases import CASES, FILES, list_copied, write_context
from volant.fledge.builders.base import Builder, BuildRequest
from volant.fledge.builders.containers import Buildah, Podman
from volant.fledge.builders.docker import Docker

TOOLS = ("podman", "buildah", "busybox")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the store of the test's own needs root"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = make_store(tmp_path_factory.mktemp("store") / "s")
    yield made
    remove_store(made)


# The rest of the cases differs in nothing that the builders do not share.
CHOSEN = (
    "the top folder only",
    "a folder and all below",
    "all but something deep",
    "any depth",
    "spaces around",
)


def check(builder: Builder, folder: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Each case is built and exported by the commands that fledge itself uses."""
    for number, case in enumerate(CHOSEN):
        text, kept_out = CASES[case]
        context, archive = write_context(folder / str(number), text), folder / f"{number}.tar"
        done = run(*builder.build_arguments(BuildRequest(context / "Dockerfile", context), folder))
        assert done.returncode == 0, done.stderr
        done = run(*builder.export_arguments((folder / "image-id").read_text().strip(), archive))
        assert done.returncode == 0, done.stderr
        assert list_copied(archive) == sorted(set(FILES) - set(kept_out.split())), case


@pytest.mark.guide("6-3", "11-3")
def test_podman_and_buildah_follow_dockers_rule(store: Store, tmp_path: Path) -> None:
    for builder in (Podman("podman"), Buildah("buildah")):
        check(builder, tmp_path / builder.name, store.run)


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_the_agents_own_context_is_nobodys_to_ignore(store: Store, tmp_path: Path, builder: str) -> None:
    """`*` keeps out all of the context, and neither the agent nor what is mapped beside the image."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=kestrel /kestrel /agent\n")
    (tmp_path / ".dockerignore").write_text("*\n")
    (tmp_path / "mapped").write_text("")
    (tmp_path / "fledge.toml").write_text(
        '[plugin]\nname = "web"\nversion = "1.0.0"\n[plugin.runtime]\ntype = "initramfs"\nsource = "Dockerfile"\n'
        f'builder = "{builder}"\n[mappings]\n"mapped" = "/mapped"\n'
    )
    assert store.fledge("validate", cwd=tmp_path).stdout.count("error") == 0
    done = store.fledge("build", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listing = store.run(
        "sh", "-c", "tar xOf web.tar.gz initramfs.cpio.gz | gzip -dc | cpio -t", cwd=tmp_path
    ).stdout
    assert {"agent", "mapped"} <= {name.lstrip("./") for name in listing.split()}


@pytest.mark.skipif(shutil.which("dockerd") is None, reason="needs dockerd")
def test_docker_does_too(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))
    with start_docker(folder) as daemon:
        check(Docker("docker"), tmp_path / "docker", daemon.run)
