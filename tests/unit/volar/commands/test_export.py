# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_data_plugin, make_disk_plugin
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def plugins(daemon: InProcessDaemon) -> None:
    daemon.upload(make_data_plugin("shop", workload={"type": "http", "port": 80}))
    daemon.upload(make_disk_plugin("whole"))
    daemon.install("ram")


def read_objects(folder: Path) -> dict[str, Any]:
    documents = YAML(typ="safe", pure=True).load_all((folder / "kubevirt.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_a_plugin_is_a_folder_with_manifests_and_an_image(volar: Volar, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    done = volar("export", "kubevirt", "shop", "-o", str(folder))
    assert done.exit_code == 0, done.err
    assert done.out == f"wrote {folder}/kubevirt.yaml and {folder}/image\n"
    assert "--image REFERENCE" in done.err
    objects = read_objects(folder)
    assert set(objects) == {"Service", "VirtualMachine"}
    (volume,) = objects["VirtualMachine"]["spec"]["template"]["spec"]["volumes"]
    assert volume["containerDisk"]["image"] == "registry.example.com/shop:1.0.0"
    (entry,) = json.loads((folder / "image" / "index.json").read_text())["manifests"]
    assert entry["digest"].startswith("sha256:")
    assert stat.S_IMODE((folder / "kubevirt.yaml").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_vm_goes_with_its_variables_and_what_it_was_made_with(volar: Volar, tmp_path: Path) -> None:
    made = volar(
        "create", "my_shop", "--plugin", "shop", "-e", "WHO=yes", "-m", "300m", "--cpus", "2", "--no-start"
    )
    assert made.exit_code == 0, made.err
    line = ["--image", "registry.example.com/team/shop:7", "--persistent", "-n", "shops"]
    done = volar("export", "kubevirt", "my_shop", *line, "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.err
    assert "skopeo copy oci:" in done.err
    objects = read_objects(tmp_path / "out")
    assert objects["Secret"]["stringData"] == {"WHO": "yes"}
    machine = objects["VirtualMachine"]
    assert machine["metadata"]["name"] == "my-shop"
    assert machine["metadata"]["namespace"] == "shops"
    assert machine["spec"]["template"]["spec"]["domain"]["memory"] == {"guest": "300Mi"}
    assert machine["spec"]["dataVolumeTemplates"][0]["spec"]["source"]["registry"]["url"].endswith("/shop:7")
    assert volar("rm", "my_shop").exit_code == 0


def test_what_stays_here_has_to_be_agreed_to(volar: Volar, daemon: InProcessDaemon, tmp_path: Path) -> None:
    daemon.client.create_volume("goods", "64M")
    made = volar("create", "keeper", "--plugin", "shop", "--volume", "goods:/data", "--no-start")
    assert made.exit_code == 0, made.err
    line = ["export", "kubevirt", "keeper", "-o", str(tmp_path / "out")]
    refused = volar(*line)
    assert refused.exit_code == 5
    assert "volume goods at /data" in refused.err
    assert list(tmp_path.iterdir()) == [], "no debris"
    done = volar(*line, "--without-attached")
    assert (done.exit_code, "note: volume goods at /data stays here" in done.err) == (0, True), done.err
    assert volar("rm", "keeper").exit_code == 0
    daemon.client.delete_volume("goods")


def test_a_vm_that_runs_has_no_disk_to_give(volar: Volar, tmp_path: Path) -> None:
    assert volar("create", "runner", "--plugin", "shop", "--no-wait").exit_code == 0
    refused = volar("export", "kubevirt", "runner", "--own-disk", "-o", str(tmp_path / "out"))
    assert refused.exit_code == 5
    assert "volar vms stop runner" in refused.err
    assert volar("export", "kubevirt", "runner", "-o", str(tmp_path / "out")).exit_code == 0
    assert volar("rm", "-f", "runner").exit_code == 0


@pytest.mark.parametrize(("plugin", "layers"), [("ram", 1), ("whole", 1), ("shop", 2)])
def test_each_kind_of_plugin_has_its_image(volar: Volar, tmp_path: Path, plugin: str, layers: int) -> None:
    folder = tmp_path / "out"
    done = volar("export", "kubevirt", f"plugin/{plugin}", "--name", "other", "-o", str(folder))
    assert done.exit_code == 0, done.err
    assert read_objects(folder)["VirtualMachine"]["metadata"]["name"] == "other"
    (entry,) = json.loads((folder / "image" / "index.json").read_text())["manifests"]
    blob = folder / "image" / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
    assert len(json.loads(blob.read_text())["layers"]) == layers


@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        (["shop", "--push"], 2, "--image"),
        (["shop", "--own-disk"], 2, "for VMs"),
        (["shop", "--image", "nowhere"], 3, "registry.example.com"),
        (["nobody"], 4, "no VM and no plugin"),
        (["shop", "-n", "Not.A_Namespace"], 2, "namespace"),
        (["shop", "-o", "."], 5, "there already"),
        (["shop", "-o", "/nowhere/out"], 4, "No such file"),
    ],
)
def test_what_cannot_be_done_says_why(volar: Volar, line: list[str], exit_code: int, said: str) -> None:
    done = volar("export", "kubevirt", *line)
    assert (done.exit_code, said in done.err) == (exit_code, True), done.err


def test_dockers_export_is_answered(volar: Volar) -> None:
    done = volar("export", "shop")
    assert done.exit_code == 2
    assert "volar export kubevirt shop" in done.err
    assert "tar -C / -c ." in done.err
