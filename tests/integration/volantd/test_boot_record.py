# SPDX-License-Identifier: Apache-2.0
"""Where the time of a boot went is known though the daemon was killed in it, and is not changed by the one after."""

from __future__ import annotations

from support.daemon_process import create, start_daemon, wait_until

STEPS = ["disk", "machine", "agent", "running", "healthy"]


def test_the_steps_outlive_the_daemon_that_noted_them_and_their_events() -> None:
    with start_daemon() as daemon:
        create(daemon)
        # Killed somewhere in the boot: what is left of it the next one sees.
        daemon.kill()
        daemon.start()
        wait_until(lambda: daemon.vm()["health"] == "healthy")
        wait_until(lambda: len(daemon.call("GET", "/vms/vm/boot")[1]["steps"]) == len(STEPS))
        boot = daemon.call("GET", "/vms/vm/boot")[1]
        assert (sorted(step["name"] for step in boot["steps"]), boot["started_from"]) == (
            sorted(STEPS),
            "boot",
        )
        assert boot["started_at"] == daemon.vm()["started_at"]
        daemon.kill()
        daemon.start()
        wait_until(lambda: daemon.vm()["agent"]["connected"])
        assert daemon.call("GET", "/vms/vm/boot")[1] == boot
        assert daemon.call("POST", "/vms/vm/restart", {"timeout_seconds": 0})[0] == 200
        wait_until(lambda: daemon.call("GET", "/vms/vm/boot")[1]["started_at"] != boot["started_at"])
        assert daemon.call("GET", "/vms/nobody/boot")[0] == 404
