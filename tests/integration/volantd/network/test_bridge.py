# SPDX-License-Identifier: Apache-2.0
"""The bridge for real, inside a network namespace of the test's own: this process never leaves the host's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inside() -> Iterator[Run]:
    """Runs a command inside a fresh namespace that has nothing but loopback."""
    name = f"volant-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", name, *command], check=check, capture_output=True, text=True, timeout=60
        )

    try:
        run("ip", "link", "set", "lo", "up")
        yield run
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def python(run: Run, code: str) -> Any:
    """The JSON that a piece of Python printed inside the namespace."""
    prelude = "import json\nfrom volant.volantd.network.bridge import *\nfrom volant.errors import *\n"
    prelude += "VM = ('52:54:00:00:00:01', '192.168.127.100')\n"
    done = run(sys.executable, "-c", prelude + textwrap.dedent(code), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def links(run: Run) -> dict[str, Any]:
    return {link["ifname"]: link for link in json.loads(run("ip", "-json", "-details", "link").stdout)}


def test_making_and_removing_twice_is_no_error(inside: Run) -> None:
    python(inside, "install_bridge(); install_bridge()")
    assert python(inside, "print(json.dumps(is_bridge_installed()))") is True
    addresses = json.loads(inside("ip", "-json", "address", "show", "volant0").stdout)[0]["addr_info"]
    assert [(a["local"], a["prefixlen"]) for a in addresses if a["family"] == "inet"] == [
        ("192.168.127.1", 24)
    ]
    rules = inside("nft", "list", "table", "ip", "volant").stdout
    assert rules.count("ip saddr 192.168.127.0/24 ip daddr != 192.168.127.0/24 masquerade") == 1
    assert inside("cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"

    python(inside, "remove_bridge(); remove_bridge()")
    assert list(links(inside)) == ["lo"]
    assert inside("nft", "list", "tables").stdout == ""


def test_a_tap_joins_the_bridge_and_goes(inside: Run) -> None:
    python(inside, "install_bridge(); make_tap(name_tap('vm-1'), *VM); make_tap(name_tap('vm-1'), *VM)")
    # Guests need not learn the gateway's address anew when others come and go.
    assert links(inside)["volant0"]["address"] == "02:76:6f:6c:61:6e"
    tap = python(inside, "print(json.dumps(list_taps()))")
    assert len(tap) == 1
    assert len(tap[0]) <= 15
    link = links(inside)[tap[0]]
    assert link["master"] == "volant0"
    assert link["linkinfo"]["info_kind"] == "tun"
    assert "UP" in link["flags"]
    python(inside, "remove_tap(name_tap('vm-1')); remove_tap(name_tap('vm-1'))")
    assert sorted(links(inside)) == ["lo", "volant0"]


def test_taps_of_vms_that_are_gone_are_removed_and_those_in_use_stay(inside: Run) -> None:
    code = """
    import fcntl, os, struct
    from volant.volantd.vms.networking import remove_stray_taps
    install_bridge()
    for vm in ("gone", "here", "of another daemon"):
        make_tap(name_tap(vm), *VM)
    attached = os.open("/dev/net/tun", os.O_RDWR)  # as its QEMU does; IFF_TAP | IFF_NO_PI
    name = name_tap("of another daemon").encode()
    fcntl.ioctl(attached, 0x400454CA, struct.pack("16sH22x", name, 0x1002))
    removed = remove_stray_taps(["here"])
    print(json.dumps([removed == [name_tap("gone")], len(list_taps())]))
    """
    assert python(inside, code) == [True, 2]


def test_setup_makes_the_bridge_and_takes_it_away(inside: Run, tmp_path: Path) -> None:
    def setup(*options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        volantd = str(Path(sys.executable).with_name("volantd"))
        return inside("env", f"VOLANT_HOME={tmp_path}", volantd, "setup", "network", *options, check=check)

    setup()
    inside("iptables", "-P", "FORWARD", "DROP")
    assert "but ip filter FORWARD drops" in setup().stdout
    inside("iptables", "-P", "FORWARD", "ACCEPT")
    assert "but" not in setup().stdout
    python(inside, "make_tap('vtap0', *VM)")
    refused = setup("--remove", check=False)
    assert refused.returncode != 0
    assert "vtap0" in refused.stderr
    assert "volant0" in links(inside)
    python(inside, "remove_tap('vtap0')")
    assert "ip link delete volant0" in setup("--remove", "--dry-run").stdout
    assert "volant0" in links(inside)
    setup("--remove")
    setup("--remove")
    assert list(links(inside)) == ["lo"]
    assert not list(tmp_path.rglob("bridged"))


def test_the_printed_commands_make_the_same_bridge(inside: Run) -> None:
    for command in python(inside, "print(json.dumps(describe_bridge()))"):
        inside("sh", "-ec", command)
    typed = inside("nft", "list", "table", "ip", "volant").stdout
    python(inside, "remove_bridge(); install_bridge()")
    assert inside("nft", "list", "table", "ip", "volant").stdout == typed


def test_no_bridge_and_a_taken_subnet_are_said(inside: Run) -> None:
    told = python(
        inside,
        """
        try:
            make_tap("vtap0", *VM)
        except Conflict as error:
            print(json.dumps([error.what, error.resolution]))
        """,
    )
    assert "no volant0" in told[0]
    assert "volar setup" in told[1]
    inside("ip", "link", "add", "other", "type", "bridge")
    inside("ip", "address", "add", "192.168.127.7/24", "dev", "other")
    told = python(
        inside,
        """
        try:
            install_bridge()
        except Conflict as error:
            print(json.dumps(error.what))
        """,
    )
    assert "other has the address 192.168.127.7" in told
    assert "volant0" not in links(inside)


def test_without_the_right_it_says_who_may(inside: Run) -> None:
    code = "from volant.volantd.network.bridge import install_bridge; install_bridge()"
    done = inside(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code, check=False
    )
    assert done.returncode != 0
    assert "NotPermitted" in done.stderr
    assert list(links(inside)) == ["lo"]
