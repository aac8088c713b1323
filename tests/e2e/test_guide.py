# SPDX-License-Identifier: Apache-2.0
"""The guide's patterns as typed: environment by cloud-init, and secrets over vsock with fetch-secrets and app."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import Host, wait_until

DOCKERFILE = """\
FROM localhost/debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends socat && rm -rf /var/lib/apt/lists/*
COPY fetch-secrets.sh app.sh /scripts/
RUN chmod +x /scripts/*.sh
COPY kestrel-config.yaml /etc/kestrel/config.yaml
"""
CONFIG = """\
exec:
  - name: fetch-secrets
    command: /scripts/fetch-secrets.sh
    vsock_cid: 2  # Host CID
    vsock_port: 9000

  - name: app
    command: /scripts/app.sh
    depends_on: [fetch-secrets]
"""
# socat 1.7, which the image has, fails at this: it reads its standard output, too. The agent answers in its place.
FETCH = """\
#!/bin/sh
# fetch-secrets.sh
socat VSOCK-CONNECT:2:9000 STDOUT > /secrets/api-key
"""
APP = """\
#!/bin/sh
echo "database $DATABASE_URL"
echo "key has $(wc -c < /secrets/api-key) bytes, ends in $(tail -c 4 /secrets/api-key)"
echo "secrets on $(stat -f -c %T /secrets)"
exec sleep infinity
"""
RECIPE = """\
[plugin]
name = "my-app"
version = "1.0.0"

[plugin.runtime]
type = "oci"
source = "Dockerfile"
"""
# The guide's own file begins with a comment above the marker.
USER_DATA = """\
# user-data.yaml
#cloud-config
write_files:
  - path: /etc/environment
    content: |
      DATABASE_URL=postgres://db.example.com/mydb
      API_KEY=secret123
an_unknown_module: true
"""


@pytest.fixture(scope="module")
def app(host: Host, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("my-app")
    for name, content in {
        "Dockerfile": DOCKERFILE,
        "kestrel-config.yaml": CONFIG,
        "fetch-secrets.sh": FETCH,
        "app.sh": APP,
        "fledge.toml": RECIPE,
        "user-data.yaml": USER_DATA,
    }.items():
        (folder / name).write_text(content)
    host.run("fledge", "build", "--builder", "buildah", cwd=folder, timeout=600)
    host.volar("plugins", "install", "./my-app.tar.gz", cwd=folder)
    host.volar("secrets", "set", "api-key", stdin="swordfish-7Qx4")
    host.volar(
        "vms", "create", "app-vm", "--plugin", "my-app", "--cloud-init", "user-data.yaml", "--secret", "api-key",
        cwd=folder,
    )  # fmt: skip
    yield "app-vm"
    host.volar("vms", "delete", "app-vm", "--force", check=False)
    host.volar("secrets", "remove", "api-key", check=False)


def read_app_log(host: Host, vm: str) -> str:
    return host.volar("vms", "logs", vm, "--process", "app").stdout


def test_secrets_arrive_before_the_app_starts(host: Host, app: str) -> None:
    log = wait_until("the app's lines", lambda: (text := read_app_log(host, app)).count("\n") >= 3 and text)
    assert "key has 14 bytes, ends in 7Qx4" in log
    assert "secrets on tmpfs" in log


def test_cloud_init_writes_the_environment_and_names_what_it_does_not_know(host: Host, app: str) -> None:
    log = wait_until("the app's lines", lambda: (text := read_app_log(host, app)).count("\n") >= 3 and text)
    assert "database postgres://db.example.com/mydb" in log
    state = host.vm(app)["cloud_init"]
    assert state["status"] in ("done", "error")
    assert state["unknown_modules"] == ["an_unknown_module"]


def test_nobody_reads_the_secret_outside(host: Host, app: str) -> None:
    shown = host.volar("vms", "get", app, "--output", "json").stdout + host.volar("secrets", "list").stdout
    assert "swordfish-7Qx4" not in shown
    stored = subprocess.run(
        ["grep", "-rlF", "swordfish-7Qx4", str(host.home)], capture_output=True, text=True
    ).stdout.split()
    assert [path for path in stored if not Path(path).name.startswith("root.qcow2")] == []


def test_another_port_is_refused(host: Host, app: str) -> None:
    refused = host.volar("vms", "exec", app, "--", "socat", "VSOCK-CONNECT:2:9001", "STDOUT", check=False)
    assert refused.returncode != 0
    again = host.volar("vms", "exec", app, "--", "socat", "VSOCK-CONNECT:2:9000", "STDOUT")
    assert again.stdout == "swordfish-7Qx4"
