# SPDX-License-Identifier: Apache-2.0
"""podman's and buildah's storage in a folder of a test's own, and a project that uses what a Dockerfile can say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.busybox_image import make_busybox_tar

DOCKERFILE = """\
FROM localhost/base:1.0 AS made
ARG GREETING=none
# The guide's own way to install the agent, and the other one.
RUN wget -O /usr/local/bin/kestrel https://get.volantvm.com/kestrel/latest/linux-amd64 && \\
    chmod +x /usr/local/bin/kestrel
COPY --from=kestrel /kestrel /opt/agent
RUN echo "$GREETING" > /greeting && chown 1234:77 /greeting && chmod 4711 /greeting && ln -s greeting /link
COPY . /srv/
ENV MODE=production
WORKDIR /srv/work
USER 1234:77
VOLUME /data
EXPOSE 8080 22
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=7s --retries=4 CMD wget -q -O- http://127.0.0.1:8080/
ENTRYPOINT ["/bin/busybox"]
CMD ["httpd", "-f"]
FROM made
RUN exit 9
"""
RECIPE = """\
[plugin]
name = "web"
version = "1.0.0"
[plugin.runtime]
target = "made"
platform = "linux/amd64"
build_args = {GREETING = "from the recipe"}
disk_size = "64M"
[mappings]
"extra" = "/usr/local/bin/extra"
"""


@dataclass(frozen=True)
class Store:
    """One containers-storage of its own, with localhost/base:1.0 in it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, env=self.environment, text=True, capture_output=True, timeout=800, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def fledge(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "volant.fledge.cli", *arguments, **options)

    def debris(self) -> list[str]:
        """Working containers, temporary files and mounts that a build has left."""
        containers = self.run("buildah", "ps", "--all", "--quiet").stdout.split()
        external = self.run("podman", "ps", "--all", "--external", "--quiet").stdout.split()
        temporary = [str(path) for path in (self.folder / "tmp").iterdir()]
        mounts = [
            line for line in Path("/proc/mounts").read_text().splitlines() if f"{self.folder}/graph" in line
        ]
        return containers + external + temporary + [line for line in mounts if "/merged " in line]


def make_store(folder: Path) -> Store:
    (folder / "tmp").mkdir(parents=True)
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n[storage.options]\n'
    )
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "CONTAINERS_STORAGE_CONF": str(config),
        "TMPDIR": str(folder / "tmp"), "VOLANT_HOME": str(folder / "home"), "BUILDAH_ISOLATION": "chroot",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }  # fmt: skip
    store = Store(folder, environment)
    base = make_busybox_tar(folder / "base.tar")
    done = store.run("podman", "import", "--quiet", str(base), "localhost/base:1.0")
    assert done.returncode == 0, done.stderr
    return store


def remove_store(store: Store) -> None:
    store.run("buildah", "rm", "--all")
    subprocess.run(["umount", "--lazy", f"{store.folder}/graph/overlay"], capture_output=True, check=False)
    shutil.rmtree(store.folder, ignore_errors=True)


def write_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in {
        "Dockerfile": DOCKERFILE, "fledge.toml": RECIPE, "page.html": "hello\n", "extra": "#!/bin/sh\n",
        "secret.log": "not for the image\n", ".dockerignore": "*.log\n*.tar.gz\n",
    }.items():  # fmt: skip
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))
    return folder
