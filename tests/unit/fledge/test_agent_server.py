# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.remembering_monitor import RememberingMonitor
from volant.fledge import agent_server
from volant.fledge.agent_server import make_agent_context, start_agent_server, want_agent

LINE = "RUN wget -O /usr/local/bin/kestrel https://get.volantvm.com/kestrel/latest/linux-amd64 && \\\n"


@pytest.fixture(autouse=True)
def own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the real port: a build of the developer's may be running."""
    monkeypatch.setattr(agent_server, "FIRST_PORT", 27077)


def fetch(url: str) -> tuple[bytes, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return answer.read(), answer.headers["Last-Modified"]


def test_the_agents_address_is_replaced_and_nothing_else(agent: Path, monitor: RememberingMonitor) -> None:
    text = f"FROM x\n{LINE}ADD http://get.volantvm.com/kestrel/latest/linux-${{TARGETARCH}} /k\nRUN wget https://other/x\n"
    assert want_agent(text)
    assert not want_agent("RUN wget https://get.volantvm.com/kestrel/v1.0.0/linux-amd64")
    with start_agent_server(monitor) as server:
        rewritten = server.rewrite(text)
    assert f"-O /usr/local/bin/kestrel {server.prefix}amd64 && \\\n" in rewritten
    assert f"ADD {server.prefix}${{TARGETARCH}} /k" in rewritten
    assert "RUN wget https://other/x" in rewritten
    assert "get.volantvm.com" not in rewritten


def test_both_architectures_are_served_on_loopback_with_a_fixed_date(
    agent: Path, monitor: RememberingMonitor
) -> None:
    with start_agent_server(monitor) as server:
        assert server.prefix.startswith("http://127.0.0.1:27077/")
        for architecture in ("amd64", "arm64"):
            assert fetch(server.prefix + architecture) == (
                agent.read_bytes(),
                "Tue, 01 Jan 1980 00:00:00 GMT",
            )
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(server.prefix + "riscv64")
        head = urllib.request.Request(server.prefix + "amd64", method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as answer:
            assert (int(answer.headers["Content-Length"]), answer.read()) == (agent.stat().st_size, b"")
    with pytest.raises(urllib.error.URLError):
        fetch(server.prefix + "amd64")


def test_two_builds_at_once_and_the_same_address_afterwards(agent: Path, monitor: RememberingMonitor) -> None:
    with start_agent_server(monitor) as first:
        assert not monitor.lines
        with start_agent_server(monitor) as second:
            assert second.port == first.port + 1
            assert fetch(second.prefix + "amd64")[0] == agent.read_bytes()
        assert "port 27077 is taken" in monitor.text
    with start_agent_server(monitor) as third:
        assert third == first


def test_another_agent_has_another_address(agent: Path, monitor: RememberingMonitor) -> None:
    with start_agent_server(monitor) as first:
        pass
    agent.write_text("another build")
    with start_agent_server(monitor) as second:
        pass
    assert first.prefix != second.prefix


def test_a_context_for_copy_from_kestrel(agent: Path, tmp_path: Path) -> None:
    folder = make_agent_context(tmp_path / "kestrel", "amd64")
    assert [path.name for path in folder.iterdir()] == ["kestrel"]
    assert (folder / "kestrel").read_bytes() == agent.read_bytes()
    assert (folder / "kestrel").stat().st_mode & 0o777 == 0o755
