# SPDX-License-Identifier: Apache-2.0
"""The smallest plugin with a page: a static busybox on `FROM scratch`, made by fledge."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

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
)
CONFIG = {
    "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"],
    "ExposedPorts": {"80/tcp": {}},
    "Env": ["PATH=/bin"],
}


def make_web_plugin(folder: Path, host: Host, busybox: Path, architecture: str = "amd64") -> Path:
    layer = folder / f"web-{architecture}.tar"
    with tarfile.open(layer, "w") as archive:
        for name in ("bin", "www", "etc", "root"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, content, mode in (
            ("bin/busybox", busybox.read_bytes(), 0o755),
            ("www/index.html", PAGE.encode(), 0o644),
            ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
        for applet in APPLETS:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
    layout = folder / f"web-{architecture}"
    write_layout(layout, [layer], "web:1.0.0", CONFIG, architecture)
    target = folder / f"web-{architecture}.tar.gz"
    host.run(
        "fledge", "build", "--oci-layout", str(layout), "--platform", f"linux/{architecture}",
        "--output", str(target),
    )  # fmt: skip
    shutil.rmtree(layout)
    return target
