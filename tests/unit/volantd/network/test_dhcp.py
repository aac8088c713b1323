# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

from volant.volantd.network.dhcp import DhcpServer, Lease, make_configuration


def test_only_those_with_a_lease_are_answered() -> None:
    lines = make_configuration([Lease("52:54:00:00:00:01", "192.168.127.100", "web")]).splitlines()
    assert "dhcp-host=52:54:00:00:00:01,192.168.127.100,web" in lines
    assert "dhcp-range=192.168.127.0,static,255.255.255.0" in lines
    assert "interface=volant0" in lines
    assert "port=0" in lines


def test_a_number_that_is_another_programs_by_now_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dhcp.pid").write_text(f"{os.getpid()}\n")
    DhcpServer(tmp_path).close()
    assert not (tmp_path / "dhcp.pid").exists()
