# SPDX-License-Identifier: Apache-2.0
"""Bridged mode, wholly inside a network namespace of the test's own: bridge, lease, DNS, NAT rules, clean-up."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    bridged.volar("vms", "create", "web", "--plugin", "nginx")
    vm = bridged.vm("web")
    assert vm["network"] == "bridged"
    assert vm["ip"].startswith("192.168.127.")
    page = bridged.run("curl", "--silent", "--fail", "--max-time", "10", f"http://{vm['ip']}").stdout
    assert "Hello from Volant!" in page
    # DNS for VM names is answered at the gateway.
    resolved = bridged.volar("vms", "ssh", "web", "getent hosts web; cat /etc/resolv.conf").stdout
    assert "192.168.127.1" in resolved
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


def test_nothing_reached_the_hosts_own_namespace(host: Host, bridged: NamespaceHost) -> None:
    links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)
    assert not [link["ifname"] for link in links if link["ifname"].startswith(("volant", "vtap"))]
