# SPDX-License-Identifier: Apache-2.0
"""`fledge init`: a skeleton that builds and runs as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from volant.errors import Conflict
from volant.fledge.naming import clean_name
from volant.output_file import show_path

RECIPE = """\
[plugin]
name = "{name}"
version = "0.1.0"
description = "What it is, in one line"

[plugin.runtime]
type = "{kind}"
{runtime}
[plugin.manifest]
workload.type = "http"
workload.port = 8080

resources.vcpu = 1
resources.memory_mb = 256
"""

DOCKERFILE = """\
# Any base will do; a version in place of "latest" keeps the plugin the same tomorrow.
FROM busybox:1.36

COPY index.html /srv/index.html

# What the VM runs, and how it knows that it works. The agent itself is put in by fledge.
COPY kestrel-config.yaml /etc/kestrel/config.yaml

EXPOSE 8080
"""

CONFIG = """\
exec:
  - name: web
    command: {command}
    args: {args}

health:
  http:
    port: 8080
    path: /
    interval: 5s
"""

SCRIPT = """\
#!/bin/sh
# Leaves the file system of the plugin in rootfs/. Any tool may do it; this one takes the machine's static
# busybox (Debian: apt-get install busybox-static).
set -eu
rm -rf rootfs
mkdir -p rootfs/bin rootfs/srv rootfs/etc/kestrel
cp "$(command -v busybox)" rootfs/bin/busybox
cp index.html rootfs/srv/
cp kestrel-config.yaml rootfs/etc/kestrel/config.yaml
"""

PAGE = """\
<!doctype html>
<title>{name}</title>
<h1>{name} works</h1>
"""

IGNORE = """\
.git
*.tar.gz
fledge.toml
"""


def make_skeleton(
    folder: Path, *, name: str | None, kind: Literal["oci", "initramfs"], force: bool
) -> list[Path]:
    """Write the files of a skeleton; Conflict where one is there already and `force` is not set."""
    name = clean_name(name or folder.resolve().name) or "my-app"
    files = {
        "fledge.toml": RECIPE.format(
            name=name, kind=kind,
            runtime='source = "Dockerfile"\n' if kind == "oci" else 'build_script = "build.sh"\n',
        ),
        "kestrel-config.yaml": CONFIG.format(
            command="/bin/busybox", args='["httpd", "-f", "-p", "8080", "-h", "/srv"]'
        ),
        "index.html": PAGE.format(name=name),
    }  # fmt: skip
    files |= {"Dockerfile": DOCKERFILE, ".dockerignore": IGNORE} if kind == "oci" else {"build.sh": SCRIPT}
    taken = [file for file in files if (folder / file).exists()]
    if taken and not force:
        raise Conflict(
            f"cannot write a skeleton into {show_path(folder)}: {', '.join(taken)} would be overwritten",
            resolution="choose another folder, or --force",
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file, text in files.items():
        path = folder / file
        path.write_text(text, encoding="utf-8")
        if file.endswith(".sh"):
            path.chmod(0o755)
        written.append(path)
    return written
