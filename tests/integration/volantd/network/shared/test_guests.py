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
ip address add 198.51.100.8/24 dev outside
ip address add 2001:db8::7/64 dev outside nodad
ip link set outside up
ip route add default via 198.51.100.1
ip route add default via 2001:db8::1
if [ "$4" = root ]; then
    exec "$2" -c "$3" "$1"
fi
# As distributions have it, and on this one alone.
mknod -m 0666 "$1/tun" c 10 200
mount --bind "$1/tun" /dev/net/tun
chown -R "$4" "$1"
exec setpriv --reuid="$4" --regid=nogroup --clear-groups "$2" -c "$3" "$1"
"""


def run_inside(folder: Path, code: str, user: str = "root") -> list[str]:
    (folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    done = subprocess.run(
        [
            "unshare", "--net", "--mount", "sh", "-c", SCRIPT,
            "sh", str(folder), sys.executable, textwrap.dedent(code), user,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(params=["root", "nobody"])
def user(request: pytest.FixtureRequest) -> str:
    """Who the network is of: root, or somebody who may do nothing but open the tun device."""
    name = str(request.param)
    if name != "root":
        reads = [
            "setpriv",
            f"--reuid={name}",
            "--regid=nogroup",
            "--clear-groups",
            sys.executable,
            "-c",
            "import volant",
        ]
        if subprocess.run(reads, capture_output=True, check=False).returncode != 0:
            pytest.skip("this checkout is closed to other users")
    return name


def test_guests_reach_those_alone_with_whom_they_share_a_network(short_path: Path, user: str) -> None:
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
        user,
    )
    assert said == [
        "asks db", "sends db", "stranger asks", "stranger sends", "to the stranger", "as another card",
        "as another address", "claims an address", "by way of the gateway", "around the rules",
    ]  # fmt: skip


def test_no_frame_reaches_the_hosts_loopback_and_the_way_out_is_open(short_path: Path, user: str) -> None:
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
        user,
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


def test_a_guest_reaches_what_its_egress_says_and_is_told_of_the_rest(short_path: Path) -> None:
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            web, free = wires
            resolver = Resolver({
                "allowed.example": ["198.51.100.7"],
                "rebound.example": ["127.0.0.1", "169.254.169.254", "10.127.0.2"],
            })
            servers = [socket.create_server((host, 8080)) for host in ("198.51.100.7", "198.51.100.8")]

            async def connect(who, *place):
                return await asyncio.to_thread(who.connect, *place)

            async def ask(name):
                web.write(web.make_datagram_to(GATEWAY, 53, name))
                answer = await asyncio.to_thread(web.wait_for_answer)
                return [str(one.rdata) for one in answer.rr], RCODE[answer.header.rcode]

            question = DNSRecord.question
            print("before", await connect(web, "198.51.100.7", 8080))
            print("other name", *await ask(question("secret.other.example").pack()))
            loud = question("aLLowed.EXAMPLE")
            loud.add_ar(EDNS0(udp_len=1232))
            print("name", *await ask(loud.pack()))
            print("named", await connect(web, "198.51.100.7", 8080))
            print("not named", await connect(web, "198.51.100.8", 8080))
            web.write(web.make_datagram_to("198.51.100.7", 53, question("tunnel.example").pack()))
            print("its port 53", await asyncio.to_thread(web.read_fate, "198.51.100.7"))
            print("rebound", *await ask(question("rebound.example").pack()))
            print("the host", await connect(web, "10.0.2.15", 22))
            print("free", await connect(free, "198.51.100.8", 8080))
            print("asked", resolver.asked)
            await network.egress.count()
            counts = network.egress.find_counts("web")
            print(counts.allowed, counts.refused_packets, counts.refused_names, sorted(counts.recent))

            # Another daemon finds what its names were answered with.
            network.egress = EgressGuard(network._run_nft, lambda: network.net, network._list_held)
            await network.refresh()
            print("next daemon", await connect(web, "198.51.100.7", 8080))

            for egress in ("198.51.100.8", "none", "open"):
                web.hold(egress)
                await network.refresh()
                print(egress, *[await connect(web, f"198.51.100.{n}", 8080) for n in (7, 8)])
            print(network.egress.find_counts("web"))

        run(act, [("web", ["back"]), ("free", ["back"])], {"web": "allowed.example,*.rebound.example,rebound.example"})
        """,
    )
    assert said == [
        "before refused", "other name [] NXDOMAIN", "name ['198.51.100.7'] NOERROR", "named answered",
        "not named refused", "its port 53 refused", "rebound [] NOERROR", "the host refused", "free answered",
        "asked ['allowed.example. 0', 'rebound.example. 0']",
        "1 4 1 ['name secret.other.example', 'tcp 10.0.2.15:22', 'tcp 198.51.100.7:8080',"
        " 'tcp 198.51.100.8:8080', 'udp 198.51.100.7:53']",
        "next daemon answered", "198.51.100.8 refused answered", "none refused refused", "open answered answered",
        "None",
    ]  # fmt: skip


def test_a_killed_daemon_that_still_answers_keeps_nobody_from_the_network(short_path: Path) -> None:
    """Its last thread may take a while to end. VMs that went elsewhere then did not wake, but boot."""
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            (web,) = wires
            await network._close_names()
            before = await network.open_socket(socket.SOCK_STREAM)
            before.bind((GATEWAY, 53))
            before.listen()
            print(await network.find_obstacle(), network.failure)
            before.close()
            question = web.make_datagram_to(GATEWAY, 53, DNSRecord.question("web").pack())
            for _ in range(100):
                web.write(question)
                frame = await asyncio.to_thread(web.read, 0.2)
                if frame is not None and frame[34:36] == b"\\0\\x35":
                    print("names again")
                    break

        run(act, [("web", ["back"])])
        """,
    )
    assert said == ["None ", "names again"]


def test_ipv6_leads_out_where_the_host_has_it_and_nowhere_inside(short_path: Path) -> None:
    said = run_inside(
        short_path,
        """
        from support.shared_wires import *

        async def act(wires, network):
            web, inner = wires
            inner.guest = replace(inner.guest, leads_out=False)
            inner.hold("open")
            web.hold("open")
            await network.refresh()
            loopback = socket.create_server(("::1", 8080), family=socket.AF_INET6)
            outside = socket.create_server(("2001:db8::7", 8080), family=socket.AF_INET6)
            gateway = str(make_address(network.net.prefix, GATEWAY))
            inner.write(inner.make_syn6("2001:db8::7", 8080))
            for destination in ("::1", gateway, "fd76:6f6c:616e:7::2", "fd76:6f6c:616e:7::15"):
                web.write(web.make_syn6(destination, 8080))
            await asyncio.to_thread(outside.settimeout, 20)
            web.write(web.make_syn6("2001:db8::7", 8080))
            print("out", (await asyncio.to_thread(outside.accept))[1][0])
            for listener in (outside, loopback):
                listener.setblocking(False)
                try:
                    print("accepted", listener.accept())
                except BlockingIOError:
                    print("no more")

        run(act, [("web", ["back"]), ("inner", ["back"])])
        """,
    )
    assert said == ["out 2001:db8::7", "no more", "no more"]
