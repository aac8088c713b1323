# SPDX-License-Identifier: Apache-2.0
"""VMs without a bridge of root's see each other, whoever is killed meanwhile. The integration tests send odd frames."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.host import Host, fetch, wait_until

PAGE = "wget -qO- http://store"


@pytest.fixture(scope="module")
def pair(host: Host, nginx_plugin: Path) -> Iterator[Host]:
    host.volar("networks", "create", "pair")
    for name, alias in (("web", "front"), ("db", "store")):
        options = ["--network", "user", "--network", "pair", "--alias", alias]
        host.volar("vms", "create", name, "--plugin", "nginx", *options)
    yield host
    for name in ("web", "db"):
        host.volar("vms", "delete", name, "--force")
    host.volar("networks", "delete", "pair")


def find_holder(host: Host) -> int:
    """The number of the process that holds the shared network, or 0."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.connect(str(host.home / "net.sock"))
            channel.send(b'{"verb": "enter"}')
            message, descriptors, _, _ = socket.recv_fds(channel, 4096, 4)
    except OSError:
        return 0
    for descriptor in descriptors:
        os.close(descriptor)
    return int(json.loads(message)["pid"]) if message else 0


def ask(client: HTTPConnection) -> str:
    client.request("GET", "/")
    return client.getresponse().read().decode()


def test_vms_see_each_other_whoever_is_killed(pair: Host) -> None:
    assert "Hello from Volant!" in pair.volar("vms", "ssh", "web", PAGE).stdout
    # A list of what it reaches holds at once, names first of all; VMs of its networks stay what they were.
    pair.volar("vms", "update", "web", "--egress", "allowed.example,192.0.2.0/24")
    assert pair.vm("web")["pending"] == []
    pair.volar("vms", "ssh", "web", "getent hosts secret.example.com", check=False)
    egress = pair.vm("web")["egress"]
    assert egress["denied"] >= 1 and "name secret.example.com" in egress["recently_denied"]
    assert "Hello from Volant!" in pair.volar("vms", "ssh", "web", PAGE).stdout
    address = pair.volar("vms", "ssh", "web", "getent ahostsv4 db").stdout.split()[0]
    assert address.startswith("10.127.")
    # The daemon's end changes nothing between them, nor for who is connected to a published port or connects there,
    # and its successor answers for names again.
    url = pair.vm("web")["url"]
    client = HTTPConnection(urlsplit(url).netloc, timeout=60)
    assert "Hello from Volant!" in ask(client)
    connection = client.sock
    pair.kill_daemon()
    assert "Hello from Volant!" in ask(client)
    assert "Hello from Volant!" in fetch(url, 60)
    assert pair.vm("db")["warnings"] == []
    assert "Hello from Volant!" in ask(client)
    assert client.sock is connection, "no end was seen of it"
    client.close()
    assert "Hello from Volant!" in pair.volar("vms", "ssh", "web", PAGE).stdout
    # The holder's end is made good, in the namespace that the VMs are still in.
    holder = find_holder(pair)
    os.kill(holder, signal.SIGKILL)
    wait_until("another holder", lambda: find_holder(pair) not in (0, holder))
    assert "Hello from Volant!" in pair.volar("vms", "ssh", "web", PAGE).stdout
    assert "Hello from Volant!" in fetch(pair.vm("web")["url"])
    assert pair.vm("db")["warnings"] == []
