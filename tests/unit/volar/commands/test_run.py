# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def plugin(daemon: InProcessDaemon) -> None:
    daemon.install("ran")


def test_in_the_background_it_is_as_created(volar: Volar, daemon: InProcessDaemon) -> None:
    done = volar("run", "-d", "-m", "128m", "ran")
    assert done.exit_code == 0, done.err
    assert done.out.startswith("ran is running at http://127.127.")
    assert daemon.client.get_vm("ran")["resources"]["memory_mb"] == 128
    assert volar("run", "-d", "ran").out.startswith("ran-2 is running"), "the first name is taken"
    assert volar("run", "-d", "--name", "ran", "ran").exit_code == 5
    assert volar("rm", "-f", "ran", "ran-2").exit_code == 0


@pytest.mark.parametrize(
    ("wrong", "exit_code", "said"),
    [
        (("-p", "http"), 2, "not a port"),
        (("-m", "inf"), 2, "not a size"),
        (("--disk-size", "١٠G"), 3, "cannot read the size"),
        (("--secret", "key:http"), 2, "cannot attach the secret"),
        (("--add-host", "x"), 2, "x"),
        (("--egress", "no such thing"), 2, "--egress"),
        (("--name", "A b"), 2, "cannot name the VM"),
        (("--name", "ran"), 5, "there is one of that name"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_fetched(
    wrong: tuple[str, ...], exit_code: int, said: str, volar: Volar, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wrong[1] == "ran":
        assert volar("run", "-d", "ran").exit_code == 0
    monkeypatch.setattr("volant.volar.commands.run.make_plugin", None)
    done = volar("run", "-d", *wrong, "ran")
    assert (done.exit_code, said in done.err) == (exit_code, True), done.err
    if wrong[1] == "ran":
        assert volar("rm", "-f", "ran").exit_code == 0


def test_in_the_foreground_its_lines_and_its_end_are_ours(volar: Volar, daemon: InProcessDaemon) -> None:
    def stop_soon() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            vms = {vm["name"]: vm for vm in daemon.client.list_vms()}
            if "front" in vms and vms["front"]["health"] == "healthy":
                time.sleep(0.3)
                daemon.client.post("/vms/front/stop")
                return
            time.sleep(0.05)

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    done = volar("run", "--rm", "--name", "front", "ran", "--", "serve")
    stopper.join()
    assert done.exit_code == 0, done.err
    assert done.out == "[web] hello\n"
    assert "front: reached at http://127.127." in done.err
    assert volar("get", "front").exit_code == 4, "--rm deleted it"


def test_a_vm_that_cannot_boot_fails_with_why_and_keeps_its_disk(volar: Volar) -> None:
    done = volar("run", "--name", "dud", "-e", "FAKE=unbootable", "ran")
    assert done.exit_code == 10
    assert "no root disk" in done.err
    assert "volar rm dud" in done.err
    assert volar("rm", "dud").exit_code == 0
