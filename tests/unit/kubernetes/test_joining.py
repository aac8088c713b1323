# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lightkube.core.exceptions import ApiError
from lightkube.resources.certificates_v1 import CertificateSigningRequest

from volant.kubernetes.joining import _approve, keep_kubeconfig, make_kubeconfig


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


class Modified(ApiError):
    def __init__(self) -> None:
        Exception.__init__(self, "it was modified")
        self.status = cast("Any", SimpleNamespace(code=409))


class ChangingRequests:
    """A cluster whose own approver is quicker once (`approves`), or only writes a label."""

    def __init__(self, *, approves: bool) -> None:
        self._approves = approves
        self.replaced = 0

    def replace(self, body: Any, name: str) -> None:
        self.replaced += 1
        if self.replaced == 1:
            raise Modified()

    def get(self, kind: Any, name: str) -> Any:
        return make_request(
            status={"conditions": [{"type": "Approved", "status": "True"}] if self._approves else []}
        )


def make_request(**more: Any) -> Any:
    spec = {"request": "", "signerName": "a/b"}
    return CertificateSigningRequest.from_dict({"metadata": {"name": "one"}, "spec": spec, **more})


@pytest.mark.parametrize(("approves", "replaced"), [(True, 1), (False, 2)])
def test_a_request_that_somebody_changed_meanwhile_is_approved_once(approves: bool, replaced: int) -> None:
    cluster = ChangingRequests(approves=approves)
    _approve(cast("Any", cluster), make_request())
    assert cluster.replaced == replaced
