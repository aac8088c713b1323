# SPDX-License-Identifier: Apache-2.0
"""volantd under load, with the tests' hypervisor: its machines are processes that speak the agent's real protocol.

The figures are limits of their own, with no peer: each line is the measured value.

daemon-reads-per-s               GET of one VM over the UNIX socket, daemon on one core, while VMs come and go;
                                 daemon-reads-per-cpu-s: for a second of its processor time, the others' work with it
daemon-read-p99-ms               the slowest percent of these
daemon-list10k-ms                10,000 VMs, to the reply's last byte; daemon-list10k-first-ms: the first time, when
                                 nothing is rendered yet; daemon-list10k-first-page-ms: the first page of them
daemon-rss-mib                   resident memory with 10,000 rows and 20 VMs that run
daemon-rss-growth-kib-per-1000   what 1,000 rounds of create and delete leave in memory, after two thousand that fill
                                 the database's cache of pages and the interpreter's arenas
daemon-create-overhead-ms        request to hypervisor's start, less the overlay disk
daemon-adopt20-ms                start of the daemon to 20 VMs adopted
daemon-idle-cpu-percent          of one core, with 20 VMs that run
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import itertools
import json
import multiprocessing
import os
import selectors
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.own_folder import make_own_folder
from bench.results import ratio

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
ROWS, RUNNING = 10_000, 20
# As `volantd serve` has it: nothing is collected until all is there that stays.
PROGRAM = "import gc, runpy; gc.disable(); runpy.run_module('support.fake_hypervisor', run_name='__main__')"
READERS = 4
READ_SECONDS, IDLE_SECONDS = 8.0, 10.0
ADOPTIONS, SETTLE_SECONDS = 5, 2.0
KEPT_ALIVE_SECONDS = 2.0  # the server closes connections that stay silent longer
# The heap takes its last step, of a mebibyte, in the second thousand.
WARM_UP_ROUNDS, SETTLING_ROUNDS = 2000, 200
ROUNDS = int(os.environ.get("BENCH_DAEMON_ROUNDS", "1000"))


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


class Daemon:
    """volantd with the tests' hypervisor, in a folder of its own, on the first core."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "vmlinux").write_bytes(b"\x7fELF")
        self.process: subprocess.Popen[bytes] | None = None
        self.connection = Connection(home / "run" / "volantd.sock")
        self._last_call = 0.0

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VOLANT_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
        environment |= {
            "VOLANT_HOME": str(self.home),
            "VOLANT_KERNEL": str(self.home / "vmlinux"),
            "PYTHONPATH": str(TESTS),
        }
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        os.sched_setaffinity(self.pid, {min(os.sched_getaffinity(0))})
        while self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get("/healthz", prefix="")
                return
            self.connection.close()
            time.sleep(0.005)
        raise SystemExit(f"no daemon: {(self.home / 'daemon.log').read_text()}")

    def call(self, method: str, path: str, body: Any = None, *, prefix: str = "/api/v1") -> Any:
        content = self.fetch(method, path, body, prefix=prefix)
        return json.loads(content) if content else None

    def fetch(self, method: str, path: str, body: Any = None, *, prefix: str = "/api/v1") -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body)
        if time.monotonic() - self._last_call > KEPT_ALIVE_SECONDS:
            self.connection.close()
        self._last_call = time.monotonic()
        self.connection.request(method, f"{prefix}{path}", data, headers)
        reply = self.connection.getresponse()
        content = reply.read()
        if reply.status >= 400:
            raise SystemExit(f"{method} {path}: {reply.status} {content.decode(errors='replace')}")
        return content

    def get(self, path: str, *, prefix: str = "/api/v1") -> Any:
        return self.call("GET", path, prefix=prefix)

    def create(self, name: str) -> None:
        self.call("POST", "/vms", {"name": name, "plugin": "tiny", "network": "vsock"})

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)
        self.connection.close()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def start_daemon() -> Iterator[Daemon]:
    with make_own_folder() as folder:
        daemon = Daemon(folder)
        daemon.start()
        yield daemon


def list_all(daemon: Daemon, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.get(f"/vms?{urllib.parse.urlencode({'limit': 10_000, **query})}")
    return found


def install_plugin(daemon: Daemon) -> None:
    sys.path.insert(0, str(TESTS))
    files = importlib.import_module("support.plugin_files")

    archive = daemon.home / "tiny.tar.gz"
    archive.write_bytes(files.make_plugin("tiny", payload=files.make_initramfs(), labels={}))
    daemon.call("POST", "/plugins", {"path": str(archive)})


def add_rows(daemon: Daemon, count: int = ROWS) -> None:
    """Rows of stopped VMs, copies of one that the daemon wrote: creating 10,000 through the API would take minutes."""
    daemon.call("POST", "/vms", {"name": "row", "plugin": "tiny", "network": "vsock", "start": False})
    daemon.kill(signal.SIGTERM)
    database = sqlite3.connect(daemon.home / "volant.db")
    columns = [row[1] for row in database.execute("PRAGMA table_info(vms)")]
    row = dict(zip(columns, database.execute("SELECT * FROM vms WHERE name = 'row'").fetchone(), strict=True))
    with database:
        for number in range(count):
            values = {**row, "id": f"{number:012x}", "name": f"row-{number}"}
            database.execute(
                f"INSERT INTO vms ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [values[column] for column in columns],
            )
    database.close()
    daemon.start()


class Reader:
    """Asks for one VM again and again on a connection of its own, with as little work of our own as there can be."""

    REQUEST = b"GET /api/v1/vms/run-0 HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.times: list[float] = []
        self._received = b""
        self.ask()

    def ask(self) -> None:
        self._began = time.perf_counter()
        self.socket.sendall(self.REQUEST)

    def receive(self) -> None:
        self._received += self.socket.recv(1 << 16)
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self.times.append(time.perf_counter() - self._began)
        self._received = b""
        self.ask()


def churn(home: Path) -> None:
    """In a process of its own: VMs come and go."""
    other = Daemon(home)
    for number in itertools.count():
        other.create(f"churn-{number}")
        other.call("DELETE", f"/vms/churn-{number}?force=true")


def measure_reads(daemon: Daemon) -> tuple[float, float, float]:
    """Reads a second, per second of its processor, and their 99th percentile in ms, while VMs come and go."""
    others = multiprocessing.Process(target=churn, args=(daemon.home,), daemon=True)
    others.start()
    time.sleep(1)
    readers = [Reader(daemon.home / "run" / "volantd.sock") for _ in range(READERS)]
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        processor = daemon.cpu_seconds()
        deadline = time.perf_counter() + READ_SECONDS
        while time.perf_counter() < deadline:
            for key, _ in selector.select():
                key.data.receive()
        processor = daemon.cpu_seconds() - processor
    assert others.is_alive()
    others.kill()
    times = sorted(seconds for reader in readers for seconds in reader.times)
    return len(times) / READ_SECONDS, len(times) / processor, 1000 * times[int(len(times) * 0.99)]


def measure_create_overhead(daemon: Daemon) -> float:
    """Request to the hypervisor's start, milliseconds: an initramfs plugin has no disk to make."""
    times = []
    for number in range(15):
        began = time.perf_counter()
        daemon.create(f"overhead-{number}")
        times.append(1000 * (time.perf_counter() - began))
        daemon.call("DELETE", f"/vms/overhead-{number}?force=true")
    return statistics.median(times)


def measure_growth(daemon: Daemon) -> float:
    def rounds(count: int, first: int) -> None:
        for number in range(first, first + count):
            daemon.call(
                "POST", "/vms", {"name": f"g-{number}", "plugin": "tiny", "network": "vsock", "start": False}
            )
            daemon.call("DELETE", f"/vms/g-{number}?force=true")

    def settle(first: int) -> int:
        """The least of some instants: what a request has in hand comes and goes by half a megabyte."""
        seen = []
        for number in range(first, first + SETTLING_ROUNDS, SETTLING_ROUNDS // 10):
            rounds(SETTLING_ROUNDS // 10, number)
            seen.append(daemon.rss_kib())
        return min(seen)

    rounds(WARM_UP_ROUNDS, 0)
    before = settle(WARM_UP_ROUNDS)
    rounds(ROUNDS, WARM_UP_ROUNDS + SETTLING_ROUNDS)
    return (settle(WARM_UP_ROUNDS + SETTLING_ROUNDS + ROUNDS) - before) * 1000 / (ROUNDS + SETTLING_ROUNDS)


def wait_until_known(daemon: Daemon) -> None:
    """Until the daemon has found all VMs and their agents have found it."""
    while True:
        vms = list_all(daemon, status="running")
        if len(vms) >= RUNNING and all(vm["agent"]["connected"] for vm in vms):
            return
        time.sleep(0.01)


def measure_adoption(daemon: Daemon) -> list[float]:
    """Milliseconds, each after a kill; the VMs have nothing else to do meanwhile."""
    wait_until_known(daemon)
    took = []
    for _ in range(ADOPTIONS):
        time.sleep(SETTLE_SECONDS)
        daemon.kill()
        began = time.perf_counter()
        daemon.start()
        wait_until_known(daemon)
        took.append(1000 * (time.perf_counter() - began))
    return took


def main() -> None:
    with start_daemon() as daemon:
        install_plugin(daemon)
        overhead_ms = measure_create_overhead(daemon)
        ratio("daemon-create-overhead-ms", overhead_ms, 0)
        growth_kib = measure_growth(daemon)
        ratio("daemon-rss-growth-kib-per-1000", growth_kib, 0)
        for number in range(RUNNING):
            daemon.create(f"run-{number}")
        adoptions = measure_adoption(daemon)
        print(f"adopted in {', '.join(f'{took:.0f}' for took in adoptions)} ms", flush=True)
        ratio("daemon-adopt20-ms", statistics.median(adoptions), 0)
        time.sleep(5)
        before = daemon.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        ratio("daemon-idle-cpu-percent", 100 * (daemon.cpu_seconds() - before) / IDLE_SECONDS)
        add_rows(daemon)
        pages, first_pages = [], []
        for _ in range(6):
            began = time.perf_counter()
            reply = daemon.fetch("GET", "/vms?limit=10000")
            pages.append(1000 * (time.perf_counter() - began))
            assert len(json.loads(reply)) == 10_000
            began = time.perf_counter()
            daemon.get("/vms?limit=20")
            first_pages.append(1000 * (time.perf_counter() - began))
        ratio("daemon-list10k-first-ms", pages[0], 0)
        ratio("daemon-list10k-ms", statistics.median(pages[1:]), 0)
        ratio("daemon-list10k-first-page-ms", statistics.median(first_pages), 1)
        reads_per_second, reads_per_cpu_second, p99_ms = measure_reads(daemon)
        ratio("daemon-reads-per-s", reads_per_second, 0)
        ratio("daemon-reads-per-cpu-s", reads_per_cpu_second, 0)
        ratio("daemon-read-p99-ms", p99_ms, 1)
        ratio("daemon-rss-mib", daemon.rss_kib() / 1024, 0)
