# SPDX-License-Identifier: Apache-2.0
"""volar compose with real VMs: stacks of our own, and three files as people publish them (tests/golden/compose). Their
images are busybox, under the names that people's files use.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from support.browser import check_accessibility, take_picture
from support.busybox_image import make_busybox_tar
from support.host import ROOT, Host, fetch, wait_until

SERVE = "/bin/busybox httpd -f -p 80 -h"
NGINX = (
    "FROM scratch\nADD busybox.tar /\nCOPY curl mc minio /bin/\nCOPY page.html /www/index.html\nEXPOSE 80\n"
    f'CMD ["/bin/sh", "-c", "{SERVE} /www"]\n'
)
MINIO = NGINX + 'EXPOSE 9000\nENTRYPOINT ["/bin/minio"]\n'
# What the files' health checks and jobs call.
PROGRAMS = {
    "curl": 'exec wget -q -O /dev/null "$2"',
    "minio": '[ "$1" = server ] && cp /www/index.html /data && exec /bin/busybox httpd -f -p 9000 -h "$2"',
    "mc": """case $1 in
        ready) exec wget -q -O /dev/null http://127.0.0.1:9000/ ;;
        alias) exec wget -q -O /dev/null "$4" ;;
        mb) echo "made $3" ;;
    esac""",
}
# Of files that people publish: what has a page, where, and the images beside nginx's.
PUBLISHED = {
    "static-site": ("site", 80, {}),
    "vaultwarden": ("vault", 80, {"vaultwarden-server:1.32.5": NGINX}),
    "minio": (
        "minio", 9000,
        {"minio-minio:0.1.0+RELEASE.2024-11-07T00-52-20Z": MINIO, "minio-mc:0.1.0+latest": NGINX},
    ),
}  # fmt: skip
GOLDEN = ROOT / "tests" / "golden" / "compose"
# A blog: a database with a volume and a secret, a job that fills it, and pages that wait for both.
BLOG = """
name: blog
services:
  pages:
    build: .
    command: [/bin/busybox, httpd, -f, -p, "8080", -h, /srv]
    restart: always
    networks: [default, back]
    working_dir: /srv
    ports: ["127.0.0.1::8080"]
    configs: [{source: page, target: /srv/index.html}]
    extra_hosts: ["elsewhere:10.9.8.7"]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:8080/"], interval: 1s}
    depends_on:
      db: {condition: service_healthy}
      job: {condition: service_completed_successfully}
  job:
    image: nginx:1.27
    command: [sh, -c, "echo the job is done"]
  db:
    image: nginx:1.27
    restart: always
    command: [sh, -c, "cat /run/secrets/key > /data/kept; exec /bin/busybox httpd -f -p 80 -h /data"]
    ports: ["127.0.0.1::80"]
    volumes: [rows:/data]
    networks: {back: {aliases: [store]}}
    secrets: [{source: key, mode: 0400}]
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1/kept", interval: 1s}
    stop_signal: SIGINT
configs: {page: {content: "a page of the blog\\n"}}
secrets: {key: {file: ./key}}
volumes: {rows: {x-volant-size: 64M}}
networks: {back: {internal: true}}
"""
SITE = """
name: site
services:
  nginx:
    image: nginx:1.27
    restart: unless-stopped
    ports: ["127.0.0.1::80"]
    volumes: ["./index.html:/www/index.html:ro", "./shared:/shared"]
    privileged: true
"""

# As many VMs of one service as it says, behind one name and one port.
FARM = """
name: farm
services:
  web:
    image: nginx:1.27
    command: [sh, -c, "mkdir -p /w; (hostname; echo $$WORD) > /w/index.html; exec httpd -f -p 80 -h /w"]
    environment: {WORD: first}
    ports: ["127.0.0.1::80"]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 1s}
    deploy: {replicas: 2}
    x-volant: {memory: 128m}
"""


@pytest.fixture(scope="module")
def folder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    make_busybox_tar(folder / "busybox.tar")
    for program, text in PROGRAMS.items():
        (folder / program).write_text(f"#!/bin/sh\n{text}\n")
        (folder / program).chmod(0o755)
    (folder / "page.html").write_text("a page of the image\n")
    (folder / "key").write_text("geheim\n")
    (folder / "index.html").write_text("a page of the site\n")
    for name, text in (("blog", BLOG), ("site", SITE), ("farm", FARM)):
        (folder / f"{name}.yaml").write_text(text)
    make_plugin(host, folder, "nginx:0.1.0+1.27", NGINX)
    return folder


def make_plugin(host: Host, folder: Path, tag: str, dockerfile: str) -> None:
    plugin = folder / "plugin.tar.gz"
    (folder / "Dockerfile").write_text(dockerfile)
    host.run("fledge", "build", str(folder), "--tag", tag, "--output", str(plugin))
    host.volar("plugins", "install", str(plugin))


@pytest.fixture
def blog(host: Host, folder: Path) -> Iterator[str]:
    yield str(folder / "blog.yaml")
    host.volar("compose", "-f", str(folder / "blog.yaml"), "down", "-v", check=False)


def fetch_from(host: Host, vm: str, guest_port: int, path: str = "") -> str:
    port = next(
        port
        for port in host.vm(vm)["ports"]
        if port["guest_port"] == guest_port and port["host_ip"] == "127.0.0.1"
    )
    return fetch(f"http://127.0.0.1:{port['host_port']}/{path}", 60)


def list_ids(host: Host, *names: str) -> dict[str, str]:
    return {name: host.vm(name)["id"] for name in names}


def check_dashboard_shows_the_blog(host: Host, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(host.volar("dashboard", "--no-open").stdout.strip())
    page.get_by_role("link", name="Stacks").click()
    stack = page.get_by_role("region", name="Stack blog")
    expect(stack).to_contain_text("2 of 2 up, 1 finished")
    expect(stack.get_by_role("rowheader")).to_have_text(["db", "job", "pages"])
    expect(stack.locator("tbody tr", has_text="blog-pages-1")).to_contain_text("→ 8080")
    check_accessibility(page)
    page.set_viewport_size({"width": 1280, "height": 540})
    take_picture(page, "dashboard-stacks")
    page.close()


def test_a_blog_comes_up_in_order_survives_a_kill_and_changes_where_it_differs(
    host: Host, folder: Path, blog: str, context: BrowserContext
) -> None:
    up = ["volar", "compose", "-f", blog, "up", "-d", "--wait"]
    with subprocess.Popen(
        up, env=host.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_until("a VM", lambda: next(host.home.glob("vms/*/qmp.sock"), None) is not None, 300)
        os.kill(host.daemon_pid(), signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    done = host.volar("compose", "-f", blog, "up", "-d", "--wait", timeout=600)
    assert fetch_from(host, "blog-pages-1", 8080) == "a page of the blog\n"
    assert fetch_from(host, "blog-db-1", 80, "kept") == "geheim\n", "the secret was there before the workload"
    assert host.vm("blog-job-1")["status"] == "stopped", done.stderr
    assert "the job is done" in host.volar("compose", "-f", blog, "logs", "job").stdout
    inside = host.volar(
        "compose", "-f", blog, "exec", "pages", "sh", "-c", "cat /etc/hosts; ls -l /run"
    ).stdout
    assert "10.9.8.7 elsewhere" in inside
    for name in ("db", "store"):
        page = host.volar(
            "compose", "-f", blog, "exec", "pages", "wget", "-qO-", f"http://{name}/kept"
        ).stdout
        assert page == "geheim\n", "services reach each other by name"
    on_disk = host.volar("vms", "exec", "blog-db-1", "--", "cat", "/proc/mounts").stdout
    assert "tmpfs /run/secrets/key tmpfs" in on_disk, "no secret lies on the VM's disk"
    check_dashboard_shows_the_blog(host, context)
    before = list_ids(host, "blog-pages-1", "blog-db-1")
    Path(blog).write_text(BLOG.replace("a page of the blog", "another page"))
    host.volar("compose", "-f", blog, "up", "-d", "--wait", timeout=600)
    after = list_ids(host, "blog-pages-1", "blog-db-1")
    assert after["blog-db-1"] == before["blog-db-1"]
    assert after["blog-pages-1"] != before["blog-pages-1"]
    assert fetch_from(host, "blog-pages-1", 8080) == "another page\n"
    gone = host.volar("compose", "-f", blog, "down", "-v", timeout=300).stderr
    assert gone.index("blog-pages-1: removed") < gone.index("blog-db-1: removed")
    assert "rows" not in host.volar("volumes", "list").stdout
    assert "blog" not in host.volar("networks", "list").stdout


def test_a_site_in_the_foreground_is_stopped_by_ctrl_c(host: Host, folder: Path) -> None:
    line = ["volar", "compose", "-f", str(folder / "site.yaml"), "up"]
    with subprocess.Popen(line, env=host.environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until(
            "its page",
            lambda: (
                host.volar("vms", "get", "site-nginx-1", check=False).returncode == 0
                and host.vm("site-nginx-1")["health"] == "healthy"
            ),
            300,
        )
        assert fetch_from(host, "site-nginx-1", 80) == "a page of the site\n"
        file = str(folder / "site.yaml")
        host.volar("compose", "-f", file, "exec", "nginx", "sh", "-c", "echo from the VM > /shared/word")
        assert (folder / "shared" / "word").read_text() == "from the VM\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "services.nginx.privileged: left out" in errors
    assert host.vm("site-nginx-1")["status"] == "stopped"
    host.volar("compose", "-f", str(folder / "site.yaml"), "down")


def test_a_service_with_replicas_is_balanced_and_updated_where_it_differs(host: Host, folder: Path) -> None:
    farm = folder / "farm.yaml"

    def compose(*words: str, **options: Any) -> str:
        return str(host.volar("compose", "-f", str(farm), *words, **options).stdout)

    def see() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(host.volar("deployments", "get", "farm-web", "-o", "json").stdout)
        return found

    up = ("up", "-d", "--wait")
    compose(*up, timeout=600)
    (port,) = see()["publish"]
    pages = [fetch(f"http://127.0.0.1:{port['host_port']}/", 60).split() for _ in range(4)]
    assert {word for _, word in pages} == {"first"}
    assert {name for name, _ in pages} == {"farm-web-1", "farm-web-2"}
    before = {vm["id"] for vm in see()["vms"]}
    answer = compose("exec", "--index", "2", "web", "nslookup", "web")
    assert len(set(re.findall(r"(?m)^Address: (\d+(?:\.\d+){3})$", answer))) == 2, answer
    os.kill(host.daemon_pid(), signal.SIGKILL)
    compose(*up, timeout=600)
    assert {vm["id"] for vm in see()["vms"]} == before, "nothing differs"
    farm.write_text(FARM.replace("first", "second"))
    compose(*up, timeout=600)
    assert not before & {vm["id"] for vm in see()["vms"]}
    assert (see()["status"], see()["publish"]) == ("ready", [port]), "the port stays"
    assert fetch(f"http://127.0.0.1:{port['host_port']}/", 60).split()[1] == "second"
    listed = compose("ps").splitlines()[1:]
    assert len(listed) == 2
    assert all(f"127.0.0.1:{port['host_port']}->80" in line for line in listed)
    compose("down", timeout=300)
    assert "farm" not in host.volar("deployments", "list").stdout + host.volar("vms", "list").stdout


def test_three_files_as_people_publish_them_answer(host: Host, folder: Path) -> None:
    """But for the ports of this machine, which a test leaves alone."""
    host.volar("volumes", "create", "vault-data", "--size", "64M")
    try:
        for name, (service, port, plugins) in PUBLISHED.items():
            for tag, dockerfile in plugins.items():
                make_plugin(host, folder, tag, dockerfile)
            override = folder / f"{name}.yaml"
            override.write_text(f'services: {{{service}: {{ports: !override ["127.0.0.1::{port}"]}}}}\n')
            files = ("-f", str(GOLDEN / name / "compose.yaml"), "-f", str(override))
            host.volar("compose", *files, "up", "-d", "--wait", timeout=600)
            page = fetch_from(host, f"{name}-{service}-1", port)
            assert page == "a page of the image\n", name
            if name == "minio":
                assert "made m/files" in host.volar("compose", *files, "logs", "make-bucket").stdout
            host.volar("compose", *files, "down", "-v", timeout=300)
    finally:
        left = host.volar("volumes", "list", "-o", "name").stdout.split()
        host.volar("volumes", "delete", "vault-data", check=False)
    assert left == ["volume/vault-data"], "one that the file calls external stays, the others go"
