# SPDX-License-Identifier: Apache-2.0
"""The smallest plugin with a page: a static busybox on `FROM scratch`, made by fledge."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.busybox_image import write_tar
from support.host import Host
from support.kvm_host import write_layout

PAGE = "a page from busybox\n"
APPLETS = (
    "sh",
    "cat",
    "hostname",
    "nproc",
    "free",
    "wget",
    "nslookup",
    "ping",
    "date",
    "uptime",
    "dd",
    "kill",
    "sleep",
    "tar",
    "touch",
    "rm",
    "tty",
)
CONFIG = {
    "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"],
    "ExposedPorts": {"80/tcp": {}},
    "Env": ["PATH=/bin"],
}


def make_web_plugin(folder: Path, host: Host, busybox: Path, architecture: str = "amd64") -> Path:
    layer = folder / f"web-{architecture}.tar"
    files = (
        ("bin/busybox", busybox.read_bytes(), 0o755),
        ("www/index.html", PAGE.encode(), 0o644),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644),
    )
    write_tar(layer, ("bin", "www", "etc", "root"), files, APPLETS)
    layout = folder / f"web-{architecture}"
    write_layout(layout, [layer], "web:1.0.0", CONFIG, architecture)
    target = folder / f"web-{architecture}.tar.gz"
    host.run(
        "fledge", "build", "--oci-layout", str(layout), "--platform", f"linux/{architecture}",
        "--output", str(target),
    )  # fmt: skip
    shutil.rmtree(layout)
    return target
