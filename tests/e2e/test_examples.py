# SPDX-License-Identifier: Apache-2.0
"""Every example is built and booted; what it serves is asked for. (nginx is in test_line.py.)"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.host import ROOT, Host, fetch

PAGES = {
    "static-site": {"/": "Hello from memory!", "/robots.txt": "User-agent"},
    "flask": {"/": "Hello from Flask!", "/health": "ok"},
    "node": {"/": "Hello from Node.js", "/health": "uptime"},
}


@contextmanager
def booted(host: Host, example: str) -> Iterator[str]:
    """A healthy VM of an example, deleted afterwards together with its plugin."""
    output = host.home / f"{example}.tar.gz"
    host.run(
        "fledge", "build", "--builder", "buildah", "--output", str(output), cwd=ROOT / "examples" / example,
        timeout=900,
    )  # fmt: skip
    host.volar("plugins", "install", str(output))
    output.unlink()
    name = f"try-{example}"
    try:
        host.volar("vms", "create", name, "--plugin", example)
        yield name
    finally:
        host.volar("vms", "delete", name, "--force", check=False)
        host.volar("plugins", "remove", example, check=False)


@pytest.mark.parametrize("example", list(PAGES))
def test_an_example_serves_its_pages(host: Host, base_image: str, example: str) -> None:
    with booted(host, example) as name:
        vm = host.vm(name)
        assert vm["health"] == "healthy"
        for path, text in PAGES[example].items():
            assert text in fetch(vm["url"] + path)


def test_postgres_keeps_its_rows(host: Host, base_image: str) -> None:
    def ask(statement: str) -> str:
        command = ["psql", "--username", "postgres", "--no-align", "--tuples-only", "--command", statement]
        return host.volar("vms", "exec", "--user", "postgres", name, "--", *command).stdout.strip()

    with booted(host, "postgres") as name:
        assert ask("SELECT rolname FROM pg_roles WHERE rolname = 'app'") == "app"
        ask("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        host.volar("vms", "restart", name)
        assert ask("SELECT sum(number) FROM kept") == "500500"
