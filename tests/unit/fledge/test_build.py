# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.oci_images import make_entry, make_layer, write_docker_archive, write_layout
from support.remembering_monitor import RememberingMonitor
from volant.errors import InvalidInput
from volant.fledge.build import build_plugin
from volant.fledge.order import CommandLine, make_order

LAYER = make_layer(make_entry("etc/hostname", content=b"a\n"))
SPY = """
import sys
from volant.fledge import cli, digests

def begin(*_):
    print(*sorted({"pydantic", "volant.fledge.pipeline", "volant.filesystems.ext4"} & set(sys.modules)))
    raise SystemExit

digests.DigestChecks.add = begin
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("option", ["--docker-archive", "--oci-layout"])
@pytest.mark.parametrize("cache", [[], ["--no-cache"]])
def test_digests_begin_before_all_else_is_loaded(home: Path, option: str, cache: list[str]) -> None:
    image = home / "image"
    if option == "--oci-layout":
        write_layout(image, [LAYER])
    else:
        write_docker_archive(image, [LAYER], tags=["app:1.0.0"])
    command = [sys.executable, "-c", SPY, "build", option, str(image), "-o", "plugin.tar.gz", *cache]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.usefixtures("agent")
def test_a_layer_that_is_damaged_becomes_no_plugin(home: Path) -> None:
    write_docker_archive(Path("image.tar"), [LAYER], tags=["app:1.0.0"])
    content = Path("image.tar").read_bytes()
    Path("image.tar").write_bytes(content.replace(b"a\n" + bytes(510), b"b\n" + bytes(510)))
    line = CommandLine(docker_archive="image.tar", output="plugin.tar.gz")
    with pytest.raises(InvalidInput, match=r"layer 1 of 1 .* is not what its digest promises"):
        build_plugin(make_order(line), RememberingMonitor())
    assert [path.name for path in Path().iterdir()] == ["image.tar"]
