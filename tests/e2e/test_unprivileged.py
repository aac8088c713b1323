# SPDX-License-Identifier: Apache-2.0
"""The whole line once more as a user without privileges that the test makes: wheel, build, install, boot, page."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import ROOT, Host, fetch

USER = "volant-e2e"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a user")


class UserHost(Host):
    """Programs run as the user, from the wheel installed for it, with its own default folders."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "state")
        self.user_home = home
        runtime = home / "run"
        self.environment = {
            "HOME": str(home),
            "USER": USER,
            "PATH": f"{home}/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "XDG_RUNTIME_DIR": str(runtime),
            "VOLANT_HOME": str(home / "state"),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        assignments = [f"{name}={value}" for name, value in self.environment.items()]
        options.setdefault("cwd", self.user_home)
        return super().run(
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--reset-env",
            "env", *assignments, *arguments, **options,  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture(scope="module")
def user_host(base_tar: Path) -> Iterator[UserHost]:
    home = Path(tempfile.mkdtemp(prefix="volant-user-", dir="/tmp"))
    subprocess.run(["useradd", "--home-dir", str(home), "--shell", "/bin/sh", USER], check=True)
    try:
        found = UserHost(home)
        subprocess.run(
            [str(ROOT / "scripts" / "make-demo-venv.sh"), str(home / "venv")], check=True, timeout=600
        )
        shutil.copytree(
            ROOT / "examples" / "nginx", home / "nginx", ignore=shutil.ignore_patterns("*.tar.gz")
        )
        shutil.copytree(ROOT / "scripts", home / "scripts")
        shutil.copy(base_tar, home)
        (home / "run").mkdir(mode=0o700)
        account = pwd.getpwnam(USER)
        subprocess.run(["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", str(home)], check=True)
        yield found
        found.close()
        # The image builder's store belongs to the user's subordinate ids: only its own namespace can remove it.
        found.run("buildah", "unshare", "rm", "-rf", str(home / ".local"), check=False)
    finally:
        subprocess.run(["userdel", USER], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.guide("2.1-4", "2.2-4", "2.2-5")
def test_the_line_without_privileges(user_host: UserHost) -> None:
    home = user_host.user_home
    user_host.run(str(home / "scripts" / "make-base-image.sh"), "buildah", str(home), timeout=300)
    user_host.volar("setup", "kernel", timeout=300)
    user_host.run("fledge", "build", "--builder", "buildah", cwd=home / "nginx", timeout=300)
    user_host.volar("plugins", "install", str(home / "nginx" / "nginx.tar.gz"))
    user_host.volar("vms", "create", "my-nginx", "--plugin", "nginx")
    vm = json.loads(user_host.volar("vms", "get", "my-nginx", "--output", "json").stdout)
    assert vm["status"] == "running"
    assert vm["network"] == "user"
    assert "Hello from Volant!" in fetch(vm["url"])
    assert user_host.volar("vms", "ssh", "my-nginx", "id -u").stdout == "0\n"
    user_host.volar("vms", "delete", "my-nginx")
