# SPDX-License-Identifier: Apache-2.0
"""The agent's supervision against pebble and supervisord, outside of a VM; best peer over ours, medians of 7.

agent-start50-vs-best   spawn of the agent to the last of 50 children's own time stamp
agent-rss-vs-best       resident memory with those 50, two seconds later
agent-restart-vs-best   SIGKILL of a child to its successor's first instruction, less the configured back-off (half a
                        second for kestrel and pebble; supervisord has none, so nothing is taken off)
agent-logs-vs-pebble    1 GB of numbered lines, at the writer: kestrel keeps 50 MB of stamped files, pebble (which
                        writes no files) its ring buffer in memory; lines that kestrel lost are counted and must be 0
agent-binary-mib        size of the agent
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.results import ratio
from volant.contract.agents import find_agent

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench-agent"
ROUNDS = int(os.environ.get("BENCH_AGENT_ROUNDS", "7"))
CHILDREN = 50
BACKOFF_SECONDS = 0.5
FLOOD_BYTES = 1_000_000_000
LOG_BYTES = 50_000_000
PEBBLE = "v1.19.0"
SUPERVISOR = "4.3.0"
PATIENCE_SECONDS = 60.0
FLOOD_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Tools:
    """The programs that take part."""

    child: Path
    kestrel: Path
    pebble: Path
    supervisord: Path


def make_tools() -> Tools:
    CACHE.mkdir(parents=True, exist_ok=True)
    child = CACHE / "child"
    source = Path(__file__).with_name("agent_child.c")
    subprocess.run(["cc", "-O2", "-static", "-o", str(child), str(source)], check=True)
    architecture = "arm64" if platform.machine() == "aarch64" else "amd64"
    return Tools(child, find_agent(architecture), make_pebble(), make_supervisord())  # type: ignore[arg-type]  # a Literal


def make_pebble() -> Path:
    """Build pebble by a go.mod of the bench's own: its latest is not served by the module proxy."""
    folder = CACHE / f"pebble-{PEBBLE}"
    program = folder / "pebble"
    if not program.exists():
        folder.mkdir(exist_ok=True)
        command = "github.com/canonical/pebble/cmd/pebble"
        (folder / "go.mod").write_text(
            f"module bench\n\ngo 1.24\n\nrequire github.com/canonical/pebble {PEBBLE}\n"
        )
        (folder / "peer.go").write_text(f'package bench\n\nimport _ "{command}"\n')
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
        build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), command]
        subprocess.run(build, cwd=folder, env=environment, check=True)
    return program


def make_supervisord() -> Path:
    folder = CACHE / f"supervisor-{SUPERVISOR}"
    program = folder / "bin" / "supervisord"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "pip"), "install", "-q", f"supervisor=={SUPERVISOR}"]
        subprocess.run(install, check=True)
    return program


def kestrel(tools: Tools, folder: Path, commands: list[list[str]]) -> list[str]:
    lines = ["exec:"]
    for index, command in enumerate(commands):
        arguments = ", ".join(f"'{argument}'" for argument in command[1:])
        lines.append(
            f"  - {{name: p{index}, command: {command[0]}, args: [{arguments}], backoff: {BACKOFF_SECONDS}s}}"
        )
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")
    log = ["--log-dir", str(folder / "log"), "--log-bytes", str(LOG_BYTES)]
    return [str(tools.kestrel), "supervise", "--config", str(folder / "config.yaml"), *log]


def pebble(tools: Tools, folder: Path, commands: list[list[str]]) -> list[str]:
    lines = ["services:"]
    for index, command in enumerate(commands):
        lines += [
            f"  p{index}:",
            "    override: replace",
            "    startup: enabled",
            f"    command: {' '.join(command)}",
            f"    backoff-delay: {BACKOFF_SECONDS}s",
        ]
    (folder / "layers").mkdir()
    (folder / "layers" / "001-bench.yaml").write_text("\n".join(lines) + "\n")
    return ["env", f"PEBBLE={folder}", str(tools.pebble), "run"]


def supervisord(tools: Tools, folder: Path, commands: list[list[str]]) -> list[str]:
    lines = [
        "[supervisord]",
        "nodaemon=true",
        f"logfile={folder}/s.log",
        f"pidfile={folder}/s.pid",
        f"childlogdir={folder}",
    ]
    for index, command in enumerate(commands):
        lines += [f"[program:p{index}]", f"command={' '.join(command)}", "autorestart=true", "startsecs=0"]
    (folder / "supervisord.conf").write_text("\n".join(lines) + "\n")
    return [str(tools.supervisord), "-c", str(folder / "supervisord.conf")]


AGENTS = {"kestrel": kestrel, "pebble": pebble, "supervisord": supervisord}


@contextlib.contextmanager
def start_agent(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start an agent; yields its process and the monotonic time right before."""
    with (folder / "agent.out").open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield process, begun
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_stamps(files: list[Path], counts: int, patience_seconds: float = PATIENCE_SECONDS) -> list[float]:
    """Wait until every file has so many stamps; the last of each, in seconds."""
    deadline = time.monotonic() + patience_seconds
    waiting = list(files)
    last: list[float] = []
    while waiting:
        lines = waiting[0].read_text().splitlines() if waiting[0].exists() else []
        if len(lines) >= counts:
            last.append(int(lines[-1]) / 1e9)
            waiting.pop(0)
        elif time.monotonic() > deadline:
            raise SystemExit(f"{waiting[0]}: no stamp within {patience_seconds:.0f} s")
        else:
            time.sleep(0.01)
    return last


def read_rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"process {pid} has no VmRSS")


def find_child(agent: int, argument: str) -> int:
    """The pid of the agent's child that has this argument."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == agent and argument.encode() in status.with_name("cmdline").read_bytes():
                return int(status.parent.name)
    raise SystemExit(f"agent {agent} has no child {argument}")


def measure_start_and_restart(tools: Tools, name: str) -> tuple[float, float, float]:
    """Seconds to the last of the children, resident bytes, seconds of a restart less the back-off."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as text:
        folder = Path(text)
        stamps = [folder / f"stamp-{index}.txt" for index in range(CHILDREN)]
        command = AGENTS[name](tools, folder, [[str(tools.child), "stamp", str(stamp)] for stamp in stamps])
        with start_agent(command, folder) as (agent, begun):
            started = max(await_stamps(stamps, 1)) - begun
            time.sleep(2)  # for pebble a service that ends within its first second is no restart
            rss = read_rss_bytes(agent.pid)
            victim = find_child(agent.pid, str(stamps[0]))
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            restarted = await_stamps(stamps[:1], 2)[0] - killed
        backoff = 0.0 if name == "supervisord" else BACKOFF_SECONDS
        return started, rss, restarted - backoff


def measure_logs(tools: Tools, name: str) -> tuple[float, int]:
    """Bytes a second at the writer, and how many lines are missing from what is kept."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as text:
        folder = Path(text)
        result = folder / "took.txt"
        command = AGENTS[name](tools, folder, [[str(tools.child), "flood", str(FLOOD_BYTES), str(result)]])
        with start_agent(command, folder):
            took = await_stamps([result], 1, FLOOD_PATIENCE_SECONDS)[0]
            time.sleep(0.5)
            lost = count_lost(folder / "log") if name == "kestrel" else 0
        return FLOOD_BYTES / took, lost


def count_lost(folder: Path) -> int:
    """Lines missing between the first that is kept and the last that was written, which says so ("end")."""
    lines: list[bytes] = []
    for segment in sorted(folder.glob("p0.*.log")):
        lines += segment.read_bytes().splitlines()
    if sum(segment.stat().st_size for segment in folder.iterdir()) > LOG_BYTES * 1.1:
        raise SystemExit("kestrel kept more than its bound")
    if not lines or not lines[-1].endswith(b" end"):
        raise SystemExit("kestrel has not kept the last line")
    first, last = (int(line.split(b" ", 3)[2]) for line in (lines[0], lines[-1]))
    return last + 1 - first - len(lines)


def main() -> None:
    tools = make_tools()
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in AGENTS}
    speeds: dict[str, list[float]] = {"kestrel": [], "pebble": []}
    lost = 0
    for _ in range(ROUNDS):
        for name in AGENTS:
            samples[name].append(measure_start_and_restart(tools, name))
        for name in speeds:
            speed, missing = measure_logs(tools, name)
            speeds[name].append(speed)
            lost += missing
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in samples.items()
    }
    for name, (start, rss, restart) in medians.items():
        print(f"  {name}: start {start:.3f} s, RSS {rss / 1e6:.1f} MB, restart {restart:.4f} s")
    print("  supervisord has no back-off before a restart; pebble adds up to a tenth of its own at random")
    for place, title in enumerate(("start50", "rss", "restart")):
        best = min(medians[name][place] for name in AGENTS if name != "kestrel")
        ratio(f"agent-{title}-vs-best", best / medians["kestrel"][place])
    ours, theirs = (statistics.median(speeds[name]) for name in ("kestrel", "pebble"))
    print(f"  logs: kestrel {ours / 1e6:.0f} MB/s, pebble {theirs / 1e6:.0f} MB/s; lines lost: {lost}")
    if lost:
        raise SystemExit(f"kestrel lost {lost} lines")
    ratio("agent-logs-vs-pebble", ours / theirs)
    ratio("agent-binary-mib", tools.kestrel.stat().st_size / 2**20)


if __name__ == "__main__":
    main()
