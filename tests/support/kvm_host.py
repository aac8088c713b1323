# SPDX-License-Identifier: Apache-2.0
"""A machine with KVM where there is none: a VM of ours that holds Debian, QEMU and this checkout's wheel.

Emulated AMD processors have SVM with nested paging, so `kvm-amd` comes up in any guest and runs guests of its own.
What QEMU 7.2 emulates there is not sound: guests are lost, mostly while they boot (about one in twelve to a reset,
after which volantd boots it again by itself, rarely one to a panic), the machine itself rarely, and of guests that run
beside each other each is several times slower, even beside an idle one. So there are few of them at a time, and who is
not needed stands still; one start that ends in a panic is tried again; and tests that fail where a guest that ran was
lost, or the machine itself, end with an exit code of their own, for which `make` makes a second machine.

The plugin is made by fledge of two layers: a Debian that is kept in the cache, and what this checkout changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from support.host import CACHE, ROOT, Host, wait_until
from support.kvm_machines import NO_VERDICT
from support.oci_images import digest_of, make_config, write_blob, write_index
from volant.client import Client
from volant.errors import VolantError
from volant.progress import SilentMonitor
from volant.volantd.boot.kernel import find_kernel, install_kernel

PACKAGES = (
    "qemu-system-x86,qemu-utils,openssh-client,passt,e2fsprogs,python3,iproute2,nftables,dnsmasq-base,curl,jq,"
    "procps"
)
NAME = "kvm-host"
STATE = "/var/lib/volant-kvm"
SOCKET = f"{STATE}/run/volantd.sock"
"""Where the inner daemon keeps its state; its cache comes with the plugin, so that nothing is fetched inside."""
PLUGIN = "/opt/web.tar.gz"
CHECKS = "/opt/driver_checks.py"
BUSYBOX = Path("/bin/busybox")
"""Static: it is all that is in the plugin which that machine runs, and in the guests of its driver checks."""
LAUNCHER = "#!/usr/bin/python3 -B\nfrom volant.programs import {0}\n{0}()\n"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
COMMAND_SECONDS = 300.0
LOST = "state (stopped the guest switched itself off|failed Kernel panic)"
"""What the inner daemon's log says of a guest that ended by itself, which no test asks for."""
ANSWER_SECONDS = 60.0
CLOUD_HYPERVISOR = os.environ.get("VOLANT_TEST_CLOUD_HYPERVISOR") or shutil.which("cloud-hypervisor")
"""Some host's own: no distribution that we build on has a package of it."""


def make_kvm_host_plugin(folder: Path, host: Host, inner_plugin: Path) -> Path:
    """plugin.tar.gz of the machine. `inner_plugin` is put into it."""
    layers = [_make_base_layer(), _make_product_layer(folder, inner_plugin)]
    layout = write_layout(folder / "layout", layers, f"{NAME}:1.0.0", {"Cmd": ["/bin/sleep", "infinity"]})
    target = folder / "kvm-host.tar.gz"
    host.run("fledge", "build", "--oci-layout", str(layout), "--output", str(target), timeout=300)
    return target


def write_layout(
    layout: Path, layers: list[Path], name: str, config: dict[str, Any], architecture: str = "amd64"
) -> Path:
    """An OCI layout whose layers are tars, linked and not read into memory."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    descriptors = []
    for layer in layers:
        with layer.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        (blobs / digest).symlink_to(layer.resolve())
        descriptors.append(
            {"mediaType": LAYER_TYPE, "digest": f"sha256:{digest}", "size": layer.stat().st_size}
        )
    document = json.loads(make_config([], config, architecture))
    document["rootfs"]["diff_ids"] = [descriptor["digest"] for descriptor in descriptors]
    written = write_blob(layout, json.dumps(document).encode())
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": descriptors,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **written},
    }  # fmt: skip
    entry = {"mediaType": manifest["mediaType"], **write_blob(layout, json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    write_index(layout, [{**entry, "platform": {"os": "linux", "architecture": architecture}}])
    return layout


def _make_base_layer() -> Path:
    target = CACHE / f"kvm-host-{digest_of(PACKAGES.encode())[7:19]}.tar"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        mode = "root" if os.getuid() == 0 else "unshare"
        command = [
            "mmdebstrap", f"--mode={mode}", "--variant=minbase", "--quiet", "--format=tar",
            '--aptopt=Acquire::Retries "5"', f"--include={PACKAGES}", "bookworm", str(draft),
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=900, stdin=subprocess.DEVNULL)
        draft.rename(target)
    return target


def _make_product_layer(folder: Path, inner_plugin: Path) -> Path:
    """The wheel with its libraries, the kernel's cache of an inner daemon, and the plugin that it is to run."""
    root = folder / "root"
    libraries = root / "opt" / "volant"
    shutil.copytree(_install_libraries(), libraries)
    wheels = folder / "wheels"
    subprocess.run([str(ROOT / "scripts" / "make-wheel.sh"), str(wheels)], check=True, timeout=600)
    (wheel,) = wheels.glob("*.whl")
    _pip("--no-deps", "--upgrade", f"--target={libraries}", str(wheel))
    packages = root / "usr" / "lib" / "python3" / "dist-packages"
    packages.mkdir(parents=True)
    (packages / "volant.pth").write_text("/opt/volant\n")
    programs = root / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    for name in ("volar", "volantd", "fledge"):
        (programs / name).write_text(LAUNCHER.format(name))
        (programs / name).chmod(0o755)
    if CLOUD_HYPERVISOR is not None:
        shutil.copyfile(CLOUD_HYPERVISOR, programs / "cloud-hypervisor")
        (programs / "cloud-hypervisor").chmod(0o755)
    copy_kernel(root / STATE.lstrip("/") / "cache" / "kernels")
    shutil.copyfile(inner_plugin, root / PLUGIN.lstrip("/"))
    shutil.copy(ROOT / "tests" / "support" / "driver_checks.py", root / CHECKS.lstrip("/"))
    shutil.copy(BUSYBOX, root / "opt" / "busybox")
    target = folder / "product.tar"
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".", filter=_own_by_root)
    shutil.rmtree(root)
    return target


def _own_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _install_libraries() -> Path:
    """The locked libraries for Debian 12's Python, compiled where this one has its version."""
    lock = ROOT / "requirements" / "runtime.lock"
    target = CACHE / f"kvm-libraries-{digest_of(lock.read_bytes())[7:19]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            draft = Path(name) / "libraries"
            _pip("--require-hashes", f"--target={draft}", "--requirement", str(lock))
            draft.rename(target)
    return target


def _pip(*arguments: str) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (36, 34, 28, 17)]
    command = [
        str(ROOT / ".venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install",
        "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms, *arguments,
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)


def copy_kernel(target: Path) -> None:
    """The guests' kernel, unpacked already, with the disk of its modules."""
    kernels = CACHE / "kernels"
    kernel = find_kernel("amd64", kernels) or install_kernel("amd64", kernels, SilentMonitor())
    assert kernel.modules is not None
    shutil.copytree(
        kernels, target, ignore=lambda _, names: [n for n in names if n.startswith((".", "arm64"))]
    )


class KvmHost:
    """The machine with KVM, and commands on it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        # Over the daemon's own connection to its agent: one of OpenSSH is a second of emulated handshake each time.
        self._client = Client(str(host.home / "run" / "volantd.sock"))

    def run(self, command: str, *, check: bool = True, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """A shell's standard output; a failure shows its errors, and the inner daemon's log."""
        line = f"export VOLANT_HOME={STATE} VOLANT_WARM_START=off PYTHONWARNINGS=ignore; {command}"
        try:
            done = self._client.exec(NAME, ["sh", "-c", line], timeout_seconds=timeout_seconds)
        except VolantError as error:
            if not check:
                return ""
            if self._is_lost():
                seen = self.host.volar("vms", "get", NAME, check=False).stdout
                console = self.host.volar("vms", "logs", NAME, "--console", check=False).stdout[-4000:]
                pytest.exit(f"the machine is lost: {command}\n{error}\n{seen}\n{console}", NO_VERDICT)
            pytest.fail(f"{command}\n{error}")
        if check and done["exit_code"] != 0:
            log = self.run(f"tail -n 40 {STATE}/volantd.log", check=False, timeout_seconds=30)
            pytest.fail(
                f"{command}\nended with {done['exit_code']}\n{done['stdout']}\n{done['stderr']}\n{log}"
            )
        return done["stdout"]

    def _is_lost(self) -> bool:
        """Whether nothing in it can be asked any more: it has ended, or stands still."""
        try:
            self._client.exec(NAME, ["true"], timeout_seconds=ANSWER_SECONDS)
        except VolantError:
            return True
        return False

    def list_lost(self) -> list[str]:
        """What the machine did by itself until now: guests that ended, or its own end."""
        if self._is_lost():
            return ["the machine neither runs nor answers"]
        return self.run(f"grep -E {shlex.quote(LOST)} {STATE}/volantd.log", check=False).splitlines()

    def copy_in(self, source: Path, target: str) -> None:
        self.host.volar("vms", "cp", str(source), f"{NAME}:{target}")

    def volar(self, *arguments: str, **options: Any) -> str:
        return self.run(shlex.join(["volar", *arguments]), **options)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The inner daemon's API, by curl: each start of volar is emulated, and takes seconds."""
        answer = self.run(make_curl_command(method, path, body))
        return json.loads(answer) if answer else None

    def vm(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"vms/{name}")
        return found

    def create(self, name: str, **wanted: object) -> dict[str, Any]:
        """A VM that is healthy."""
        self.ask("POST", "vms", {"name": name, "plugin": "web", **wanted})
        return self.wait_healthy(name)

    def wait_healthy(self, name: str) -> dict[str, Any]:
        """The VM; at once a failure where it has failed instead, with its last words. Of a start that ended in a
        kernel's panic there is one more. (One that is stopped was reset, and boots again.)"""
        panics = 0

        def look() -> dict[str, Any] | None:
            nonlocal panics
            vm = self.vm(name)
            if vm["status"] == "failed":
                panics += (vm.get("crash") or {}).get("kind") == "panic"
                if panics != 1:
                    words = self.run(f"tail -qn 20 {STATE}/vms/{vm['id']}/*.log", check=False)
                    pytest.fail(f"{name} failed: {vm['status_reason']}\n{words}")
                self.ask("POST", f"vms/{name}/start")
            return vm if vm["health"] == "healthy" else None

        return cast("dict[str, Any]", self.wait_until(f"{name} to be healthy", look))

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """One of its VMs stands still, while others need the processor. Its agent's connection may not outlive that."""
        self.ask("POST", f"vms/{name}/pause")
        yield
        self.ask("POST", f"vms/{name}/unpause")
        question = make_curl_command("POST", f"vms/{name}/exec", {"command": ["/bin/sh", "-c", ":"]})
        self.wait_until(
            f"{name} to answer", lambda: self.run(f"{question} >/dev/null && echo yes", check=False)
        )

    def enter(self, name: str, command: str) -> str:
        """A shell's standard output in one of its VMs."""
        done = self.ask("POST", f"vms/{name}/exec", {"command": ["/bin/sh", "-c", command]})
        assert done["exit_code"] == 0, done
        return str(done["stdout"])

    def fetch(self, url: str) -> str:
        return self.run(f"curl --silent --show-error --fail --max-time 20 {shlex.quote(url)}")

    def wait_until(
        self, what: str, condition: Callable[[], Any], timeout_seconds: float = COMMAND_SECONDS
    ) -> Any:
        return wait_until(what, condition, timeout_seconds)


def make_curl_command(method: str, path: str, body: object) -> str:
    said = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    url = f"http://volantd/api/v1/{path}"
    command = ["curl", "-sS", "--fail-with-body", "--unix-socket", SOCKET, "-X", method, *said, url]
    return shlex.join(command)
