# SPDX-License-Identifier: Apache-2.0
"""The guide's patterns and troubleshooting on one VM: environment, secrets, hooks, packages, broken configs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.guide_projects import copy_project, type_in
from support.host import Host, fetch, wait_until

SECRET = "swordfish-7Qx4"
# --secret is what the guide leaves open: which secret port 9000 answers with.
CREATE = """volar vms create app-vm \\
  --plugin my-app \\
  --cloud-init user-data.yaml \\
  --secret api-key"""


@pytest.fixture(scope="module")
def app(host: Host, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = copy_project("my-app", tmp_path_factory.mktemp("my-app"))
    type_in(host, folder, "fledge validate && fledge build --builder buildah", timeout=600)
    type_in(host, folder, "volar plugins install ./my-app.tar.gz")
    host.volar("secrets", "set", "api-key", stdin=SECRET)
    type_in(host, folder, CREATE)
    yield "app-vm"
    host.volar("vms", "delete", "app-vm", "--force", check=False)
    host.volar("plugins", "remove", "my-app", check=False)
    host.volar("secrets", "remove", "api-key", check=False)


def ask(host: Host, vm: str) -> dict[str, object]:
    """What the app tells, as soon as it answers."""

    def fetch_facts() -> dict[str, object]:
        with suppress(OSError):
            return dict(json.loads(fetch(host.vm(vm)["url"] + "/")))
        return {}

    return dict(wait_until("the app's answer", fetch_facts))


def ssh(host: Host, vm: str, command: str) -> str:
    return host.volar("vms", "ssh", vm, command).stdout


@pytest.mark.guide("7.2-1", "7.2-2", "7.2-3", "7.2-5", "8.1-1", "8.1-2", "8.1-3", "13.1-3")
def test_cloud_init_writes_the_environment_and_names_what_it_does_not_know(host: Host, app: str) -> None:
    assert ask(host, app)["database"] == "postgres://db.example.com/mydb"
    assert type_in(host, host.home, f"volar vms get {app} --output json | jq .health") == '"healthy"\n'
    state = host.vm(app)["cloud_init"]
    assert state["status"] in ("done", "error")
    assert state["unknown_modules"] == ["an_unknown_module"]


@pytest.mark.guide("5.2-1", "8.3-1", "8.3-2", "8.3-3")
def test_secrets_arrive_before_the_app_starts(host: Host, app: str) -> None:
    facts = ask(host, app)
    assert facts["key_ends_in"] == "7Qx4"
    assert facts["mode"] == "production"
    assert ssh(host, app, "stat -f -c %T /secrets") == "tmpfs\n"


@pytest.mark.guide("8.3-4")
def test_nobody_reads_the_secret_outside(host: Host, app: str) -> None:
    shown = host.volar("vms", "get", app, "--output", "json").stdout + host.volar("secrets", "list").stdout
    assert SECRET not in shown
    stored = subprocess.run(["grep", "-rlF", SECRET, str(host.home)], capture_output=True, text=True).stdout
    assert [path for path in stored.split() if not Path(path).name.startswith("root.qcow2")] == []


def test_another_port_is_refused(host: Host, app: str) -> None:
    refused = host.volar("vms", "exec", app, "--", "socat", "VSOCK-CONNECT:2:9001", "STDOUT", check=False)
    assert refused.returncode != 0
    again = host.volar("vms", "exec", app, "--", "socat", "VSOCK-CONNECT:2:9000", "STDOUT")
    assert again.stdout == SECRET


@pytest.mark.guide("7.2-4", "7.3-1", "7.3-2", "7.3-3", "7.3-4", "13.3-1", "13.4-1", "13.4-2", "13.4-3")
def test_every_line_of_troubleshooting_answers(host: Host, app: str, tmp_path: Path) -> None:
    assert "listening, key of 14 characters" in type_in(host, tmp_path, f"volar vms logs {app}")
    assert "healthy" in type_in(host, tmp_path, f"volar vms get {app}")
    assert "kestrel" in type_in(host, tmp_path, f"volar vms logs {app} --console")
    kestrel = type_in(host, tmp_path, f"volar vms ssh {app} 'which kestrel'")
    assert kestrel == "/usr/local/bin/kestrel\n"
    config = type_in(host, tmp_path, f"volar vms ssh {app} 'cat /etc/kestrel/config.yaml'")
    assert config == (tmp_path / copy_project("my-app", tmp_path) / "kestrel-config.yaml").read_text()
    journal = type_in(host, tmp_path, f"volar vms ssh {app} 'journalctl -u kestrel'")
    assert "process fetch-secrets" in journal and "process app" in journal
    # -f goes on until it is interrupted; what happens meanwhile is shown.
    follow = subprocess.Popen(
        ["volar", "vms", "ssh", app, "journalctl -u kestrel -f"],
        env=host.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follow.stdout is not None
    with follow:
        next(follow.stdout)
        ssh(host, app, f"kill -9 {ask(host, app)['pid']}")
        assert next(line for line in follow.stdout if "process app" in line and "SIGKILL" in line)
        follow.terminate()


@pytest.mark.guide("5.3-2")
def test_a_crash_is_restarted(host: Host, app: str) -> None:
    before = ask(host, app)
    ssh(host, app, f"kill -9 {before['pid']}")
    after = wait_until("the app once more", lambda: (now := ask(host, app))["pid"] != before["pid"] and now)
    assert after["key_ends_in"] == "7Qx4"
    wait_until("its health", lambda: host.vm(app)["health"] == "healthy")


def make_repository(folder: Path) -> None:
    """A flat repository of one package, as `apt-get` reads it."""
    tree = folder / "said"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/said").write_text("#!/bin/sh\necho said by a package\n")
    (tree / "usr/bin/said").chmod(0o755)
    control = "Package: said\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
    control += "Depends: libc6\nDescription: says so\n"
    (tree / "DEBIAN/control").write_text(control)
    package = folder / "said_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True, capture_output=True
    )
    content = package.read_bytes()
    entry = (
        f"Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    (folder / "Packages").write_text(control + entry)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[int]:
    """The port on loopback where a folder is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.guide("1-2", "10-4")
def test_packages_are_installed_at_run_time(host: Host, app: str, tmp_path: Path) -> None:
    make_repository(tmp_path)
    config = tmp_path / "ssh-config"
    config.write_text(host.volar("ssh-config", app).stdout)
    source = "deb [trusted=yes] http://127.0.0.1:8099/ ./"
    install = f"echo '{source}' > /etc/apt/sources.list && apt-get update && apt-get install -y said && said"
    with serve(tmp_path) as port:
        done = host.run("ssh", "-F", str(config), "-R", f"8099:127.0.0.1:{port}", app, install)
    assert done.stdout.endswith("said by a package\n")


@pytest.mark.guide("1-1", "5.2-2", "5.3-3", "5.3-5", "10-3")
def test_a_stop_reaches_the_app_and_hooks_run_around_it(host: Host, app: str) -> None:
    host.volar("vms", "stop", app)
    assert "asked to stop" in host.volar("vms", "logs", app).stdout
    host.volar("vms", "start", app)
    # One from the first boot, one from its end, one from this boot; and what apt installed is still there.
    assert ssh(host, app, "cat /var/lib/hooks; said") == "before\nafter\nbefore\nsaid by a package\n"


BROKEN = """\
exec:
  - name: crashing
    command: /bin/sh
    args: ["-c", "echo last words; exit 3"]
  - name: missing
    command: /usr/bin/not-there
  - name: lacking
    command: /usr/local/bin/lacks-a-library
"""


@pytest.mark.guide("13.3-3", "13.3-4", "13.3-5")
def test_what_is_wrong_is_said_and_ssh_still_answers(host: Host, app: str) -> None:
    """A config that kestrel refuses; then programs that crash, are not there, and lack a library."""
    ssh(host, app, "echo 'exec: [{name: app, comand: /bin/true}]' > /etc/kestrel/config.yaml")
    host.volar("vms", "restart", app, check=False)
    shown = host.volar("vms", "get", app).stdout
    assert "unhealthy (the config is not valid: /etc/kestrel/config.yaml:1" in shown, shown
    assert "comand" in ssh(host, app, "journalctl -u kestrel")

    write = f"cat > /etc/kestrel/config.yaml <<'END'\n{BROKEN}END\n"
    lacking = "cp /bin/true /usr/local/bin/lacks-a-library && "
    lacking += "sed -i 's/libc[.]so[.]6/libq.so.9/' /usr/local/bin/lacks-a-library"
    ssh(host, app, write + lacking)
    host.volar("vms", "restart", app, check=False)
    vm = host.vm(app)
    assert (vm["status"], vm["health"]) == ("running", "unhealthy")
    for unit, words in {
        "kestrel": "process crashing exited with code 3",
        "crashing": "last words",
        "lacking": "libq.so.9",
    }.items():
        wait_until(words, lambda unit=unit, words=words: words in ssh(host, app, f"journalctl -u {unit}"))
    assert "not-there" in ssh(host, app, "journalctl -u kestrel")
