# SPDX-License-Identifier: Apache-2.0
"""Bridged mode, wholly inside a network namespace of the test's own: bridge, lease, DNS, NAT rules, clean-up."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.bridged_net import PING
from support.host import Host

NAMESPACE = "volant-e2e"


class NamespaceHost(Host):
    """A host whose programs all run inside the namespace."""

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return super().run("ip", "netns", "exec", NAMESPACE, *arguments, **options)

    def links(self) -> list[str]:
        return [link["ifname"] for link in json.loads(self.run("ip", "-json", "link").stdout)]


@pytest.fixture(scope="module")
def bridged(host: Host, nginx_plugin: Path) -> Iterator[NamespaceHost]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    found = NamespaceHost(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        found.run("ip", "link", "set", "lo", "up")
        # The namespace has no way out: it boots the kernel that was fetched outside.
        found.environment["VOLANT_KERNEL"] = str(next((host.home / "cache" / "kernels").glob("amd64-*")))
        found.volar("setup", "network")
        found.volar("plugins", "install", str(nginx_plugin))
        yield found
    finally:
        found.close()
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True)


def test_a_bridged_vm_has_an_address_a_name_and_leaves_nothing(host: Host, bridged: NamespaceHost) -> None:
    links_before = bridged.links()
    assert "volant0" in links_before
    bridged.volar("vms", "create", "web", "--plugin", "nginx", "--publish", "[::1]:8086:80")
    vm = bridged.vm("web")
    assert vm["network"] == "bridged"
    assert vm["ip"].startswith("192.168.127.")
    page = bridged.run("curl", "--silent", "--fail", "--max-time", "10", f"http://{vm['ip']}").stdout
    assert "Hello from Volant!" in page
    # DNS for VM names is answered at the gateway.
    resolved = bridged.volar("vms", "ssh", "web", "getent hosts web; cat /etc/resolv.conf").stdout
    assert "192.168.127.1" in resolved
    # Beside its lease it has an address of IPv6, under the same name, and is reached at it from the host.
    address6 = bridged.volar("vms", "ssh", "web", "getent ahostsv6 web.volant").stdout.split()[0]
    assert vm["ip6"] == address6
    assert bridged.run(sys.executable, "-c", PING, address6).stdout == "answered\n"
    page = bridged.run("curl", "--silent", "--fail", "--max-time", "10", "http://[::1]:8086").stdout
    assert "Hello from Volant!" in page
    # It sends as itself or not at all, from its first frame to its last.
    guarded = bridged.run("nft", "list", "table", "netdev", "volant").stdout
    assert f"ip saddr {vm['ip']} accept" in guarded
    # A guest that asks by DHCP gets the address that it was created with, whatever is on the bridge.
    bridged.volar("vms", "create", "asks", "--plugin", "nginx", "--network", "dhcp")
    asks = bridged.vm("asks")
    page = bridged.run("curl", "--silent", "--fail", "--max-time", "10", f"http://{asks['ip']}").stdout
    assert "Hello from Volant!" in page
    for name in ("asks", "web"):
        bridged.volar("vms", "delete", name)
    assert "chain" not in bridged.run("nft", "list", "table", "netdev", "volant").stdout
    assert sorted(bridged.links()) == sorted(links_before)
    assert (
        bridged.run("curl", "--silent", "--max-time", "3", f"http://{vm['ip']}", check=False).returncode != 0
    )


def test_a_vm_without_a_network_is_entered_all_the_same(bridged: NamespaceHost) -> None:
    links_before = bridged.links()
    refused = bridged.volar(
        "vms", "create", "alone", "--plugin", "nginx", "--network", "vsock", "--publish", "80", check=False
    )
    assert "it has no network" in refused.stderr
    bridged.volar("vms", "create", "alone", "--plugin", "nginx", "--network", "vsock")
    vm = bridged.vm("alone")
    assert (vm["network"], vm["ip"], vm["ip6"], vm["url"], vm["ports"]) == ("vsock", None, None, None, [])
    # Its workload was found healthy from inside, and the way in is the agent's.
    assert vm["health"] == "healthy"
    seen = bridged.volar("vms", "ssh", "alone", "ls /sys/class/net; cat /proc/net/route | wc -l").stdout
    assert seen.split() == ["lo", "1"]
    assert bridged.links() == links_before
    bridged.volar("vms", "delete", "alone")


def test_nothing_reached_the_hosts_own_namespace(host: Host, bridged: NamespaceHost) -> None:
    links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)
    assert not [link["ifname"] for link in links if link["ifname"].startswith(("volant", "vtap"))]
