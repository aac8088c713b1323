# SPDX-License-Identifier: Apache-2.0
"""The images that node conformance asks for, in a registry of the node's own: their published ones are out of reach.

`agnhost` and `pause` are Kubernetes' own programs of the very version. What lies around them is Debian's busybox, which
is older (1.35, where the published image has 1.37); agnhost's image has not the tools that only tests of networks need.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tarfile import DIRTYPE, SYMTYPE
from typing import Any

import pytest

from support.conformance_programs import PAUSE_VERSION
from support.control_plane import WITH_US
from support.host import wait_until
from support.oci_images import make_entry, make_layer, write_layout

BUSYBOX = Path("/bin/busybox")
REPOSITORY = "e2e-test-images"
PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
    b"user-defined-in-image:x:1000:1000::/home:/bin/sh\n"
)
GROUP = b"root:x:0:\nnobody:x:65534:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGNHOST = {
    "Entrypoint": ["/agnhost"], "Cmd": ["pause"], "Env": [PATH],
    "ExposedPorts": {f"{port}/tcp": {} for port in (80, 5000, 8080, 8081, 9376)},
}  # fmt: skip


def make_images(folder: Path, programs: Path, agnhost_version: str) -> dict[str, Path]:
    """An OCI layout of each image, by its name within the registry."""
    base = _make_base()
    agnhost = make_layer(
        make_entry("agnhost", content=(programs / "agnhost").read_bytes(), mode=0o755),
        make_entry("agnhost-2", SYMTYPE, link="agnhost"),
        make_entry("uploads", DIRTYPE),
    )
    pause = make_layer(make_entry("pause", content=(programs / "pause").read_bytes(), mode=0o755))
    made: dict[str, tuple[list[bytes], dict[str, Any]]] = {
        f"{REPOSITORY}/busybox:1.37.0-1": ([base], {"Cmd": ["sh"], "Env": [PATH]}),
        f"{REPOSITORY}/agnhost:{agnhost_version}": ([base, agnhost], AGNHOST),
        f"pause:{PAUSE_VERSION}": ([pause], {"Entrypoint": ["/pause"], "User": "65535:65535", "Env": [PATH]}),
    }
    layouts = {}
    for number, (name, (layers, config)) in enumerate(made.items()):
        layouts[name] = folder / f"image-{number}"
        layouts[name].mkdir()
        write_layout(layouts[name], layers, config=config)
    return layouts


def _make_base() -> bytes:
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    folders = ("bin", "etc", "home", "root", "usr", "usr/bin", "usr/sbin", "var", "var/spool")
    return make_layer(
        *(make_entry(name, DIRTYPE) for name in folders),
        make_entry("tmp", DIRTYPE, mode=0o1777),
        make_entry("etc/passwd", content=PASSWD),
        make_entry("etc/group", content=GROUP),
        make_entry("bin/busybox", content=BUSYBOX.read_bytes(), mode=0o755),
        *(make_entry(f"bin/{name}", SYMTYPE, link="busybox") for name in applets if name != "busybox"),
    )


@contextlib.contextmanager
def start_image_registry(prefix: Sequence[str], layouts: dict[str, Path]) -> Iterator[str]:
    """A registry on the loopback of the network that `prefix` enters, as host:port. It has these images."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not on this machine")
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder, place = Path(name), f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        config, log = folder / "registry.yml", folder / "registry.log"
        config.write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder / 'registry'}\nhttp:\n  addr: {place}\n"
        )
        with log.open("wb") as stream:
            command = [*prefix, *WITH_US, program, "serve", str(config)]
            process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        try:
            wait_until("the registry", lambda: b"listening on" in log.read_bytes())
            for image, layout in layouts.items():
                copy = [
                    "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
                    f"oci:{layout}:latest", f"docker://{place}/{image}",
                ]  # fmt: skip
                subprocess.run([*prefix, *copy], check=True, timeout=300, stdin=subprocess.DEVNULL)
            yield place
        finally:
            process.terminate()
            process.wait()
