# SPDX-License-Identifier: Apache-2.0
"""Beside packet filters of others: Docker's rules, the real firewalld, and policies that drop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.bridged_net import FIRST, OUTSIDE, PRELUDE, Net, start_net
from support.firewall_daemon import start_firewalld
from support.unpacked_ufw import start_ufw

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# Answers on port 53, as the daemon does on the gateway's.
SERVE_NAMES = """
import socket
listener = socket.create_server(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""
LIST = """
import json
from volant.volantd.network.host_firewall import list_obstacles
print(json.dumps([(found.fact, found.mend) for found in list_obstacles("volant0")]))
"""


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        found.add_outside()
        yield found


def list_obstacles(net: Net) -> Any:
    return json.loads(net.python("host", LIST))


@pytest.mark.parametrize("program", ["iptables", "iptables-legacy"])
def test_beside_docker_guests_reach_out(net: Net, program: str, tmp_path: Path) -> None:
    """Docker sets the policy of FORWARD to DROP and leaves a chain for rules of others."""
    if net.run("host", program, "-nL", check=False).returncode != 0:
        pytest.skip(f"{program} does not work here")
    for command in ("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"):
        net.run("host", program, *command.split())
    assert not net.reaches("a", OUTSIDE)
    (tmp_path / "iptables").symlink_to(f"/usr/sbin/{program}")
    path = f"import os; os.environ['PATH'] = {str(tmp_path)!r} + ':' + os.environ['PATH']\n{PRELUDE}"
    net.python("host", f"{path}install_bridge(); install_bridge()")
    assert net.reaches("a", OUTSIDE)
    assert not net.reaches("outside", FIRST)
    assert net.run("host", program, "-S", "DOCKER-USER").stdout.count("--comment volant") == 3
    assert list_obstacles(net) == []
    net.python("host", f"{path}remove_bridge()")
    assert "volant" not in net.run("host", program, "-S", "DOCKER-USER").stdout


@pytest.mark.parametrize("program", ["iptables", "iptables-legacy", "nft"])
def test_what_drops_by_its_policy_is_named_and_the_printed_commands_mend_it(net: Net, program: str) -> None:
    if program.startswith("iptables"):
        if net.run("host", program, "-nL", check=False).returncode != 0:
            pytest.skip(f"{program} does not work here")
        net.run("host", program, "-P", "FORWARD", "DROP")
    else:
        net.run("host", "nft", "add table inet mine")
        policy = "{ type filter hook forward priority 5; policy drop; }"
        net.run("host", "nft", f"add chain inet mine onward {policy}")
    assert not net.reaches("a", OUTSIDE)
    (found,) = list_obstacles(net)
    assert found[0].endswith("drops what guests send beyond this host")
    net.run("host", "sh", "-c", found[1])
    assert net.reaches("a", OUTSIDE)
    assert not net.reaches("outside", FIRST)
    assert list_obstacles(net) == []


def test_a_host_that_drops_what_comes_in_keeps_guests_from_names(net: Net) -> None:
    server = net.start("host", SERVE_NAMES)
    try:
        net.run("host", "iptables", "-P", "INPUT", "DROP")
        assert not net.connects("a", "192.168.127.1", 53)
        ((fact, mend),) = list_obstacles(net)
        assert fact == "ip filter INPUT drops guests' DNS and DHCP"
        net.run("host", "sh", "-c", mend)
        assert net.connects("a", "192.168.127.1", 53)
        assert list_obstacles(net) == []
    finally:
        server.kill()
        server.communicate()


def test_beside_firewalld_guests_reach_out_and_ask_names(net: Net, tmp_path: Path) -> None:
    server = net.start("host", SERVE_NAMES)
    try:
        with start_firewalld(net, tmp_path) as programs:
            path = f"import os; os.environ['PATH'] = {str(programs)!r} + ':' + os.environ['PATH']\n"

            def has_zone() -> list[bool]:
                ask = [str(programs / "firewall-cmd"), "--zone=trusted", "--query-interface=volant0"]
                asked = (net.run("host", *ask, *more, check=False) for more in ([], ["--permanent"]))
                return [done.stdout.strip() == "yes" for done in asked]

            assert not net.reaches("a", OUTSIDE)
            assert not net.connects("a", "192.168.127.1", 53)
            ((fact, mend),) = json.loads(net.python("host", path + LIST))
            assert fact == "firewalld has volant0 in no zone that lets guests through"
            assert mend == "volar setup network"
            for _ in range(2):
                net.python("host", f"{path}{PRELUDE}install_bridge()")
            assert has_zone() == [True, True]
            for _ in range(2):
                assert net.reaches("a", OUTSIDE)
                assert net.connects("a", "192.168.127.1", 53)
                assert not net.reaches("outside", FIRST)
                assert not net.connects("outside", "198.51.100.1", 53)
                assert json.loads(net.python("host", path + LIST)) == []
                net.run("host", str(programs / "firewall-cmd"), "--reload")
            net.python("host", f"{path}{PRELUDE}remove_bridge()")
            assert has_zone() == [False, False]
    finally:
        server.kill()
        server.communicate()


def test_beside_ufw_the_printed_commands_let_guests_out_and_ask_names(net: Net, tmp_path: Path) -> None:
    """It lets pings pass, so connections tell."""
    servers = [net.start(place, SERVE_NAMES) for place in ("host", "outside")]
    try:
        with start_ufw(net, tmp_path) as programs:
            assert not net.connects("a", OUTSIDE, 53)
            assert not net.connects("a", "192.168.127.1", 53)
            found = list_obstacles(net)
            assert {fact for fact, _ in found} >= {
                "ip filter FORWARD drops what guests send beyond this host",
                "ip filter INPUT drops guests' DNS and DHCP",
            }
            (mend,) = {mend for _, mend in found}
            assert mend == "ufw allow in on volant0 && ufw route allow in on volant0"
            net.run("host", "sh", "-c", f"PATH={programs}:$PATH; {mend}")
            for command in ("status", "reload"):  # and so it stays
                assert net.connects("a", OUTSIDE, 53)
                assert net.connects("a", "192.168.127.1", 53)
                assert not net.connects("outside", "198.51.100.1", 53)
                assert list_obstacles(net) == []
                net.run("host", str(programs / "ufw"), command)
    finally:
        for server in servers:
            server.kill()
            server.communicate()
