# SPDX-License-Identifier: Apache-2.0
"""The systemd units, of the system's daemon and of a user's own: pure text, the same for `volar setup` and packages.

Two units, since the daemon and its VMs end at different times. VMs are processes of their own and outlive a restart
of `volantd.service` (KillMode=process). `volant-shutdown.service` does nothing until it is stopped, which systemd does
when the host goes down and, since it was started after the daemon, while that still serves.
"""

from __future__ import annotations

DAEMON_UNIT = "volantd.service"
SHUTDOWN_UNIT = "volant-shutdown.service"

# What VMs are given to end in order, and how long the unit may take in all: what is left is killed meanwhile.
SHUTDOWN_SECONDS = 60
UNIT_SECONDS = 90


def make_units(program: str, *, system: bool) -> dict[str, str]:
    """Name → text. `program`: absolute path of volantd; `system`: for the system's manager, not a user's."""
    return {
        DAEMON_UNIT: _make_daemon_unit(program, system=system),
        SHUTDOWN_UNIT: _make_shutdown_unit(program, system=system),
    }


def _make_daemon_unit(program: str, *, system: bool) -> str:
    network = "After=network-online.target\nWants=network-online.target\n" if system else ""
    listen = " --listen 127.0.0.1:7777" if system else ""
    folders = (
        "RuntimeDirectory=volant\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes\n"
        "StateDirectory=volant\nStateDirectoryMode=0700\n"
        if system
        else ""
    )
    # OOMPolicy: a VM that the kernel kills for want of memory is no reason to end the daemon.
    return f"""\
[Unit]
Description=Volant's daemon: virtual machines of plugins
Documentation=man:volantd(8)
{network}
[Service]
Type=notify
TimeoutStartSec=300
{_name_defaults(system)}ExecStart={program} serve{listen}
KillMode=process
Restart=on-failure
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=65536
{folders}
[Install]
WantedBy={_name_target(system)}
"""


def _make_shutdown_unit(program: str, *, system: bool) -> str:
    network = " network-online.target" if system else ""
    return f"""\
[Unit]
Description=Volant: VMs are stopped in order before this host goes down
Documentation=man:volantd(8)
After={DAEMON_UNIT}{network}

[Service]
Type=oneshot
RemainAfterExit=yes
{_name_defaults(system)}ExecStop={program} shutdown --timeout {SHUTDOWN_SECONDS}
TimeoutStopSec={UNIT_SECONDS}

[Install]
WantedBy={_name_target(system)}
"""


def _name_target(system: bool) -> str:
    return "multi-user.target" if system else "default.target"


def _name_defaults(system: bool) -> str:
    """Root's settings, where a package or an administrator has put some."""
    return "EnvironmentFile=-/etc/default/volantd\n" if system else ""
