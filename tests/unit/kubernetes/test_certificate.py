# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from volant.kubernetes.certificate import ServingCertificate, read_node_name


def test_one_of_our_own_serves_for_now_and_its_key_is_nobody_elses(tmp_path: Path) -> None:
    made = ServingCertificate(tmp_path / "kubernetes", "host-1", "192.0.2.1")
    assert not made.is_good()
    made.sign_for_now()
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert not made.is_good(), "the cluster has not signed it"
    assert read_node_name(made.certificate.read_bytes()) == "host-1"


def test_who_is_no_node_has_no_name() -> None:
    assert read_node_name(b"no certificate") == ""
