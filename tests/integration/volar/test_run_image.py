# SPDX-License-Identifier: Apache-2.0
"""volar run of an image in a registry: skopeo, fledge and the daemon are real, the guest is a process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.daemon_process import VOLAR, start_daemon
from support.image_registry import start_registry
from support.oci_images import make_entry, make_layer, write_docker_archive


def test_an_image_of_a_registry_runs_and_is_fetched_once(tmp_path: Path) -> None:
    layer = make_layer(make_entry("app", content=b"#!/bin/sh\n"))
    archive = write_docker_archive(tmp_path / "image.tar", [layer], config={"Entrypoint": ["/app"]})
    with start_registry(tmp_path) as registry, start_daemon() as daemon:
        name = f"{registry}/team/app:1.2"
        pushed = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
        subprocess.run(
            [*pushed, f"docker-archive:{archive}", f"docker://{name}"], check=True, capture_output=True
        )

        def run(*options: str) -> subprocess.CompletedProcess[str]:
            line = [*VOLAR, "run", "-d", *options, name]
            return subprocess.run(line, env=daemon.environment, capture_output=True, text=True, timeout=120)

        first = run()
        assert first.returncode == 0, first.stderr
        vm_name = first.stdout.split()[0]
        plugin = daemon.vm(vm_name)["plugin"]
        assert plugin["name"].endswith("-team-app")
        assert plugin["version"] == "0.1.0+1.2"
        again = run("--pull", "never", "--name", "again")
        assert again.returncode == 0, again.stderr
        assert "merge layers" not in again.stderr
        assert daemon.vm("again")["plugin"] == plugin
