# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from volant.kubernetes.joining import keep_kubeconfig, make_kubeconfig


def test_the_nodes_kubeconfig_has_the_nodes_own_rights_alone() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    document = json.loads(make_kubeconfig("https://192.0.2.9:6443", b"CA", b"CERT", key))
    (user,) = document["users"]
    assert base64.b64decode(user["user"]["client-certificate-data"]) == b"CERT"
    assert b"PRIVATE KEY" in base64.b64decode(user["user"]["client-key-data"])
    assert document["clusters"][0]["cluster"]["server"] == "https://192.0.2.9:6443"


def test_the_key_in_it_is_nobody_elses_to_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        keep_kubeconfig(tmp_path / "kubernetes" / "node.kubeconfig", b"{}")
    finally:
        os.umask(before)
    kept = tmp_path / "kubernetes" / "node.kubeconfig"
    assert (kept.stat().st_mode & 0o777, kept.read_bytes()) == (0o600, b"{}")
