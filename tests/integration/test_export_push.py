# SPDX-License-Identifier: Apache-2.0
"""The image of an exported disk, to real registries by a real skopeo, which read it as any container's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.image_registry import KINDS, RegistryKind
from support.in_process_daemon import InProcessDaemon, start_in_process
from support.plugin_files import make_data_plugin
from volant.process import run_tool
from volant.volar.cli import run


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as daemon:
        daemon.upload(make_data_plugin("shop"))
        yield daemon


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_exported_disk_is_an_image_to_a_registry(
    kind: RegistryKind, daemon: InProcessDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "registry").mkdir()
    with kind.start(tmp_path / "registry") as address:
        place, folder = f"{address}/team/shop-vm:1.0", tmp_path / "shop"
        line = ["export", "kubevirt", "shop", "--image", place, "--push", "-o", str(folder)]
        assert run(line, daemon.client) == 0, capsys.readouterr().err
        assert f'image: "{place}"' in (folder / "kubevirt.yaml").read_text()
        config = json.loads(skopeo("inspect", "--config", f"docker://{place}"))
        assert (config["os"], len(config["rootfs"]["diff_ids"])) == ("linux", 2)
        # The layout has one image, so it need not be named.
        digests = {
            json.loads(skopeo("inspect", where))["Digest"]
            for where in (f"docker://{place}", f"oci:{folder}/image")
        }
        assert len(digests) == 1
        skopeo("copy", f"docker://{place}", f"oci:{tmp_path}/copy:back")


def skopeo(verb: str, *arguments: str) -> str:
    insecure = "--src-tls-verify=false" if verb == "copy" else "--tls-verify=false"
    return run_tool(["skopeo", "--insecure-policy", verb, insecure, *arguments]).stdout
