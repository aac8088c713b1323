# SPDX-License-Identifier: Apache-2.0
"""The shared network as hostile guests meet it: taps that the test holds, frames that it writes, all else for real.

Each test is run in a network namespace of its own, whose one link beside loopback, a bridge, leads nowhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        shutil.which("pasta") is None or shutil.which("nft") is None, reason="needs passt and nftables"
    ),
]
SCRIPT = """
set -e
mount --bind $1/resolv.conf /etc/resolv.conf
ip link set lo up
ip link add outside type bridge
ip address add 198.51.100.7/24 dev outside
ip link set outside up
ip route add default via 198.51.100.1
exec "$2" -c "$3" "$1"
"""


def run_inside(folder: Path, code: str) -> list[str]:
    (folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", SCRIPT, "sh", str(folder), sys.executable, textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_guests_reach_those_alone_with_whom_they_share_a_network(short_path: Path) -> None:
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            web, db, alone = wires
            for frame, who in (
                (web.make_arp(db), "asks"),
                (web.make_datagram(db, b"hello"), "sends"),
                (alone.make_arp(web), "stranger asks"),
                (alone.make_datagram(web, b"hello"), "stranger sends"),
                (web.make_datagram(alone, b"hello"), "to the stranger"),
                (web.make_datagram(db, b"hello", mac=db.mac), "as another card"),
                (web.make_datagram(db, b"hello", address=alone.address), "as another address"),
                (web.make_arp(db, address=alone.address), "claims an address"),
                (web.make_datagram(db, b"hello", to_mac=GATEWAY_MAC), "by way of the gateway"),
                (web.make_datagram(alone, b"hello", to_mac=GATEWAY_MAC), "around the rules"),
            ):
                sender = alone if who.startswith("stranger") else web
                print(who, *wires.list_receivers(frame, sender))

        run(act, [("web", ["back"]), ("db", ["back"]), ("alone", [])])
        """,
    )
    assert said == [
        "asks db", "sends db", "stranger asks", "stranger sends", "to the stranger", "as another card",
        "as another address", "claims an address", "by way of the gateway", "around the rules",
    ]  # fmt: skip


def test_no_frame_reaches_the_hosts_loopback_and_the_way_out_is_open(short_path: Path) -> None:
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            (web,) = wires
            inner, outer = socket.create_server(("127.0.0.1", 0)), socket.create_server(("198.51.100.7", 0))
            for destination in ("127.0.0.1", "127.0.0.53", "0.0.0.0", "10.0.2.2", "10.0.2.15", GATEWAY):
                web.write(web.make_syn(destination, inner.getsockname()[1]))
            # Frames of one wire are dealt with in their order.
            web.write(web.make_syn("198.51.100.7", outer.getsockname()[1]))
            outer.settimeout(20)
            print("out", outer.accept()[1][0])
            inner.setblocking(False)
            try:
                print("loopback", inner.accept())
            except BlockingIOError:
                print("loopback is closed")

        run(act, [("web", ["back"])])
        """,
    )
    assert said == ["out 198.51.100.7", "loopback is closed"]


def test_the_daemon_reaches_guests_and_answers_them_for_names(short_path: Path) -> None:
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            web, db, alone = wires
            caller = await network.open_socket(socket.SOCK_DGRAM)
            caller.connect((web.address, 80))
            caller.send(b"published")
            print(web.wait_for(b"published") is not None)
            for asker in (web, alone):
                asker.write(asker.make_datagram_to(GATEWAY, 53, DNSRecord.question("db").pack()))
                answer = await asyncio.to_thread(asker.wait_for_answer)
                print(asker.name, [str(one.rdata) for one in answer.rr], RCODE[answer.header.rcode])

        run(act, [("web", ["back"]), ("db", ["back"]), ("alone", [])])
        """,
    )
    assert said == ["True", "web ['10.127.0.2'] NOERROR", "alone [] NXDOMAIN"]
