# SPDX-License-Identifier: Apache-2.0
"""The NoCloud seed of a whole-system disk: an ISO 9660 image labelled `cidata` that its own cloud-init looks
for.

Plugins that boot by volant's kernel need none: the agent gets the same documents in guest.json.
https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from volant.whole_file import WholeFile

LABEL = "cidata"


def write_seed(
    target: Path, *, user_data: bytes, meta_data: str, vendor_data: str = "", network_config: str = ""
) -> None:
    """Write the image to `target`, mode 0600 (user-data may hold keys), whole or not at all."""
    # Imported where it is used: only whole-system disks need it.
    from pycdlib import PyCdlib

    documents = {"user-data": user_data, "meta-data": meta_data.encode()}
    if vendor_data:
        documents["vendor-data"] = vendor_data.encode()
    if network_config:
        documents["network-config"] = network_config.encode()
    image = PyCdlib()
    image.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    try:
        for name, content in documents.items():
            plain = name.replace("-", "").upper()
            image.add_fp(
                io.BytesIO(content), len(content), f"/{plain}.;1", rr_name=name, joliet_path=f"/{name}",
                file_mode=0o100400,
            )  # fmt: skip
        with WholeFile(target, mode=0o600) as file:
            with os.fdopen(file.descriptor, "wb", closefd=False) as stream:
                image.write_fp(stream)
            file.publish()
    finally:
        image.close()
