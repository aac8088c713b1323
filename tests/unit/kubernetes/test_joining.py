# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives.asymmetric import ec

from volant.kubernetes.joining import make_kubeconfig


def test_the_nodes_kubeconfig_has_the_nodes_own_rights_alone() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    document = json.loads(make_kubeconfig("https://192.0.2.9:6443", b"CA", b"CERT", key))
    (user,) = document["users"]
    assert base64.b64decode(user["user"]["client-certificate-data"]) == b"CERT"
    assert b"PRIVATE KEY" in base64.b64decode(user["user"]["client-key-data"])
    assert document["clusters"][0]["cluster"]["server"] == "https://192.0.2.9:6443"
