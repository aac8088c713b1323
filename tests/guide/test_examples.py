# SPDX-License-Identifier: Apache-2.0
"""Every example is built and booted; what it serves is asked for. (nginx is in e2e/test_line.py.)"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.host import ROOT, Host, fetch, wait_until

PAGES = {
    "static-site": {"/": "Hello from memory!", "/robots.txt": "User-agent"},
    "flask": {"/": "Hello from Flask!", "/health": "ok"},
    "node": {"/": "Hello from Node.js", "/health": "uptime"},
}
MOST_INITRAMFS_BYTES = 50_000_000


@contextmanager
def booted(host: Host, example: str) -> Iterator[str]:
    """A healthy VM of an example, deleted afterwards together with its plugin."""
    output = host.home / f"{example}.tar.gz"
    host.run(
        "fledge", "build", "--builder", "buildah", "--output", str(output), cwd=ROOT / "examples" / example,
        timeout=900,
    )  # fmt: skip
    host.volar("plugins", "install", str(output))
    if example == "static-site":
        assert output.stat().st_size < MOST_INITRAMFS_BYTES
    output.unlink()
    name = f"try-{example}"
    try:
        host.volar("vms", "create", name, "--plugin", example)
        yield name
    finally:
        host.volar("vms", "delete", name, "--force", check=False)
        host.volar("plugins", "remove", example, check=False)


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("static-site", marks=pytest.mark.guide("4.1-3", "6-1", "10-2", "10-5")),
        pytest.param("flask", marks=pytest.mark.guide("4.2-1", "4.2-4")),
        pytest.param("node", marks=pytest.mark.guide("9.2-3")),
    ],
)
def test_an_example_serves_its_pages(host: Host, base_image: str, example: str) -> None:
    with booted(host, example) as name:
        vm = host.vm(name)
        assert vm["health"] == "healthy"
        for path, text in PAGES[example].items():
            assert text in fetch(vm["url"] + path)
        if example == "static-site":
            host.volar("vms", "exec", name, "--", "/bin/busybox", "touch", "/srv/written")
            host.volar("vms", "restart", name)
            written = ["vms", "exec", name, "--", "/bin/busybox", "ls", "/srv/written"]
            assert host.volar(*written, check=False).returncode != 0


# What pgbench changes in one transaction (https://www.postgresql.org/docs/15/pgbench.html): always the same sum.
SUMS = (
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)"
    " AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)"
    " AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
)
POSTGRES = "/usr/lib/postgresql/15/bin"


@pytest.mark.guide("1-1", "4.3-1", "4.3-2", "4.3-3")
def test_postgres_runs_init_sql_once_keeps_its_rows_and_is_forked_under_load(
    host: Host, base_image: str
) -> None:
    def run(vm: str, *command: str) -> str:
        return host.volar("vms", "exec", "--user", "postgres", vm, "--", *command, timeout=300).stdout.strip()

    def ask(statement: str, vm: str = "") -> str:
        options = ("--username", "postgres", "--no-align", "--tuples-only", "--command")
        return run(vm or name, "psql", *options, statement)

    with booted(host, "postgres") as name:
        assert ask("SELECT rolname FROM pg_roles WHERE rolname = 'app'") == "app"
        ask("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        ask("DROP DATABASE app")
        ask("DROP ROLE app")
        host.volar("vms", "restart", name)
        assert ask("SELECT sum(number) FROM kept") == "500500"
        host.volar("vms", "stop", name)
        host.volar("vms", "start", name)
        ask("INSERT INTO kept VALUES (1)")
        os.kill(host.vm(name)["hypervisor"]["pid"], signal.SIGKILL)
        wait_until(
            "a restart", lambda: (vm := host.vm(name))["restarts"] == 1 and vm["health"] == "healthy", 240
        )
        assert ask("SELECT sum(number) FROM kept") == "500501"
        assert ask("SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == "0"
        run(name, f"{POSTGRES}/pgbench", "--initialize", "--quiet", "postgres")
        load = f"nohup su postgres -c '{POSTGRES}/pgbench --client 2 --time 900 postgres' > /dev/null 2>&1 &"
        host.volar("vms", "ssh", name, load)
        count = "SELECT count(*) FROM pgbench_history"
        wait_until("the load", lambda: int(ask(count)) > 20)
        host.volar("vms", "fork", name, "copy", timeout=300)
        try:
            for vm in (name, "copy"):
                assert ask(SUMS, vm) == "t"
                before = int(ask(count, vm))
                # The processes that wrote when the memory was taken write on, in both.
                wait_until(f"{vm} to go on", lambda vm=vm, before=before: int(ask(count, vm)) > before)
            run("copy", f"{POSTGRES}/pg_amcheck", "--install-missing", "--heapallindexed", "postgres")
            assert ask(SUMS, "copy") == "t"
            assert ask("SELECT sum(number) FROM kept", "copy") == "500501"
        finally:
            host.volar("vms", "delete", "copy", "--force", check=False)
