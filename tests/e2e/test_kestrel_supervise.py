# SPDX-License-Identifier: Apache-2.0
"""The agent's supervision in real machines: order, users, environment, restarts, orphans, logs across boots, hooks.

One process of the guest's own config looks at what the others left, prints one line per check and ends the guest.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.busybox_guest import assert_all_passed, make_busybox_root, make_script, write_image
from support.guest_harness import GuestHarness, ask, make_disk, make_harness, make_overlay, run_in, write_file

CONFIG = """
exec:
  - name: verify
    command: /verify
    working_dir: /
    user: root
    depends_on: [who, late, daemon, flood, crashing]
  - name: who
    command: sh
    args: [-c, "echo $(id -u):$(id -g):$(id -G):$HOME:$PWD:$FROM_IMAGE:$FROM_FILE:$OWN; echo opened >/dev/stdout"]
    user: web
    working_dir: /srv
    env:
      - {name: FROM_FILE, value_from: env}
      - {name: OWN, value: mine}
  - name: late
    command: sh
    args: [-c, "cat /run/order; echo late >>/run/order"]
    depends_on: [once]
  - name: once
    command: sh
    args: [-c, "sleep 0.3; echo hook $(cat /run/hooked) >>/run/order; echo once >>/run/order"]
    run_once: true
  - name: daemon
    command: sh
    args: [-c, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & sleep 0.2"]
  - name: crashing
    command: sh
    args: [-c, "echo crash >>/run/crashes; test $(wc -l </run/crashes) -ge 2 || exit 7; exec sleep 1000"]
    backoff: 100ms
  - name: orphans
    command: sh
    args: [-c, "i=0; while [ $i -lt 1000 ]; do (true & ); i=$((i+1)); done; exit 42"]
    restart: never
  - name: flood
    command: sh
    args: [-c, "i=0; while [ $i -lt 120 ]; do cat /run/block; i=$((i+1)); done; echo the last line"]
    depends_on: [block]
  - name: block
    command: sh
    args: [-c, "yes 'a line of some length that is written again and again' | head -n 1200 >/run/block"]
    run_once: true
hooks:
  pre_start: [[/bin/sh, -c, "echo ran >/run/hooked"]]
  post_stop: [[/bin/sh, -c, "echo after all"]]
"""

LAST_WORD = "orphans exited with code 42"

CHECKS = {
    "user, folder and environment": 'test "$(journalctl -u who -o cat | tail -2 | head -1)" = '
    '"33:44:44 55:/srv/web:/srv:image:file:mine"',
    "a user may open /dev/stdout": 'test "$(journalctl -u who -o cat -n 1)" = opened',
    "order": 'test "$(tr "\\n" , </run/order)" = "hook ran,once,late,"',
    "a crash is restarted": "test $(wc -l </run/crashes) -eq 2",
    "a daemon is followed": "journalctl -u kestrel | grep -q \"process daemon put itself into the background\"",
    "a supervised code among a thousand orphans": f"journalctl -u kestrel | grep -q \"process {LAST_WORD}\"",
    "no zombie is left": "sleep 0.2; ! grep -l \"^State:.Z\" /proc/[0-9]*/status",
    "a flood is bounded": "test $(du -sk /var/log/kestrel | cut -f1) -lt 13000",
    "its last line is kept": 'test "$(journalctl -u flood -n1 -o cat)" = "the last line"',
    "journalctl leads PATH": 'test "$(command -v journalctl)" = /run/kestrel/bin/journalctl',
    "since": 'test "$(journalctl --since 2100-01-01)" = "-- No entries --"',
}  # fmt: skip

# The second boot finds what the first has said.
LATER_CHECKS = {
    "output of the first boot": 'journalctl -u late -o cat | head -n 3 | tr "\\n" , | grep -q "hook ran,once,"',
    "what the agent said then": f"journalctl -u kestrel | grep -q \"process {LAST_WORD}\"",
    "still bounded": "test $(du -sk /var/log/kestrel | cut -f1) -lt 13000",
}  # fmt: skip


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("guests"))


def install_scenario(root: Path) -> None:
    # `orphans` fails, so nothing may depend on it: what looks waits for its code in the log instead.
    wait = "".join(
        f"until journalctl -u kestrel | grep -q '{text}'; do sleep 0.2; done\n"
        for text in (LAST_WORD, "flood exited with code 0")
    )
    again = "if [ -e /booted ]; then exec /later; fi\n: >/booted\n"
    write_file(root, "verify", make_script(CHECKS).replace("\n", "\n" + again + wait, 1), 0o755)
    write_file(root, "later", make_script(LATER_CHECKS), 0o755)
    write_file(root, "etc/kestrel/config.yaml", CONFIG)
    write_file(root, "etc/environment", "FROM_FILE=file\n")
    passwd, group = root / "etc/passwd", root / "etc/group"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv/web:/bin/false\n")
    group.write_text("root:x:0:\nweb:x:44:\nextra:x:55:web\n")
    (root / "srv").mkdir(exist_ok=True)
    write_image(root, [], env=["PATH=/usr/bin:/bin", "FROM_IMAGE=image", "FROM_FILE=overridden"])


def run_scenario(harness: GuestHarness, root: Path, folder: Path, size: str) -> None:
    install_scenario(root)
    base = make_disk(root, folder / "disk.img", size)
    disk = make_overlay(base, folder / "disk.qcow2")
    console = harness.run(disk, network=False)
    assert_all_passed(console, CHECKS)
    assert "[post_stop] after all" in console, console
    assert console.index("[verify] verified") < console.index("[post_stop] after all")
    assert_all_passed(harness.run(disk, network=False), LATER_CHECKS)


def test_busybox(harness: GuestHarness, tmp_path: Path) -> None:
    run_scenario(harness, make_busybox_root(tmp_path / "root"), tmp_path, "96M")


def test_debian(harness: GuestHarness, base_tar: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", str(base_tar), "-C", str(root)], check=True)
    try:
        run_scenario(harness, root, tmp_path, "512M")
    finally:
        shutil.rmtree(root)


@pytest.mark.guide("13.3-4")
async def test_a_crashing_workload_leaves_the_guest_up_with_its_reason(
    harness: GuestHarness, tmp_path: Path
) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_image(root, ["/bin/sh", "-c", "echo last words; exit 9"], env=["PATH=/bin"])
    with harness.boot(make_disk(root, tmp_path / "disk.img")) as guest:
        guest.wait_for("starts again in 2s")
        state = await ask(guest, harness, "state.get", {})
        assert state["health"] == "unhealthy", state
        assert "process workload: exited with code 9" in str(state["health_reason"]), state
        assert "last words" in await run_in(guest, harness, "journalctl -u workload -o cat")
        assert "exited with code 9" in await run_in(guest, harness, "journalctl -u kestrel")


def test_a_batch_workload_ends_the_guest_with_its_result(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_image(root, ["/bin/sh", "-c", "echo computed; exit 5"], env=["PATH=/bin"])
    disk = make_disk(root, tmp_path / "disk.img")
    console = harness.run(disk, network=False, settings={"workload": {"type": "batch"}})
    assert "[workload] computed" in console, console
    assert "the workload has ended with 5" in console, console


async def test_a_workload_that_ignores_its_signal_is_killed_at_the_deadline(
    harness: GuestHarness, tmp_path: Path
) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_image(
        root, ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"], env=["PATH=/bin"]
    )
    with harness.boot(make_disk(root, tmp_path / "disk.img")) as guest:
        guest.wait_for("[workload] deaf")
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 1})
        console = guest.wait_for_end()
    assert "did not end before the deadline of the stop: killing it" in console, console
