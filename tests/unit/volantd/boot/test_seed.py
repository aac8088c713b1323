# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

from pycdlib import PyCdlib

from volant.volantd.boot.seed import write_seed


def read_seed(path: Path) -> tuple[str, dict[str, bytes]]:
    image = PyCdlib()
    image.open(str(path))
    try:
        label = image.pvd.volume_identifier.decode().strip()
        files = {}
        for child in image.list_children(rr_path="/"):
            if child is not None and child.is_file():
                content = io.BytesIO()
                name = child.rock_ridge.name().decode()
                image.get_file_from_iso_fp(content, rr_path=f"/{name}")
                files[name] = content.getvalue()
        return label, files
    finally:
        image.close()


def test_the_seed_has_the_label_and_the_documents(tmp_path: Path) -> None:
    target = tmp_path / "seed.iso"
    write_seed(
        target, user_data=b"#cloud-config\n", meta_data="instance-id: 1\n", network_config="version: 2\n"
    )
    assert read_seed(target) == (
        "cidata",
        {
            "user-data": b"#cloud-config\n",
            "meta-data": b"instance-id: 1\n",
            "network-config": b"version: 2\n",
        },
    )
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_not_given_is_not_there(tmp_path: Path) -> None:
    write_seed(tmp_path / "seed.iso", user_data=b"", meta_data="instance-id: 1\n")
    assert sorted(read_seed(tmp_path / "seed.iso")[1]) == ["meta-data", "user-data"]
