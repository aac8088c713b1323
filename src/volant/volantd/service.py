# SPDX-License-Identifier: Apache-2.0
"""volantd as a service: the system's own for root, this user's otherwise; installed, and taken away again."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from volant.contract.daemon_process import stop_daemon
from volant.contract.paths import find_state_dir
from volant.errors import NotPermitted, UsageError, VolantError
from volant.process import run_tool
from volant.volantd.settings import Settings
from volant.volantd.units import DAEMON_UNIT, SHUTDOWN_UNIT, make_units

# The folder that sd_booted(3) looks for.
SYSTEMD = Path("/run/systemd/system")
SYSTEM_UNITS = Path("/etc/systemd/system")
# Where a distribution's package brings the units itself.
PACKAGED_UNITS = Path("/usr/lib/systemd/system")
PACKAGED_PROGRAM = Path("/usr/bin/volantd")


@dataclass(frozen=True, slots=True)
class Service:
    """Which manager runs it (`system`: the system's, else this user's), and where that looks for units."""

    system: bool
    folder: Path

    def systemctl(self, *arguments: str) -> list[str]:
        return ["systemctl", *([] if self.system else ["--user"]), *arguments]


def find_service(environment: Mapping[str, str] = os.environ) -> Service:
    if os.geteuid() == 0:
        return Service(True, SYSTEM_UNITS)
    home = environment.get("HOME") or os.path.expanduser("~")
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return Service(False, Path(config) / "systemd" / "user")


def find_program() -> Path:
    """The volantd that runs now, as it is installed."""
    return Path(sys.argv[0]).resolve()


def check_service(settings: Settings) -> None:
    """Refuse what `setup_service` would refuse, before anything else is done."""
    if SYSTEMD.is_dir():
        check_program(find_program(), settings, system=find_service().system)


def check_program(program: Path, settings: Settings, *, system: bool) -> None:
    """Refuse to write a program into a unit that will not be there, or is not root's, when the unit starts it."""
    checkout = next((folder for folder in program.parents if (folder / "hatch_build.py").is_file()), None)
    if checkout is not None:
        raise UsageError(
            f"cannot make a service of {program}: it lies in a checkout ({checkout}), which may be cleaned or moved",
            resolution=f"cd {checkout} && {'sudo ' if system else ''}make install, then volar setup with that one",
        )
    if settings.state_dir != find_state_dir({"HOME": os.environ.get("HOME", "")}):
        raise UsageError(
            f"cannot make a service for {settings.state_dir}: a service keeps the usual place",
            resolution="unset VOLANT_HOME and XDG_STATE_HOME",
        )
    if system and (place := find_foreign_place(program)):
        raise NotPermitted(
            f"cannot make a service of {program}: root would run what another user may change ({place})",
            resolution="install it for all: sudo make install, or the Debian packages",
        )


def find_foreign_place(program: Path) -> Path | None:
    """The program, its interpreter's home or a folder above them that others than root may change."""
    for place in (program, *program.parents, Path(sys.prefix), *Path(sys.prefix).parents):
        found = place.stat()
        if found.st_uid != 0 or (found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX):
            return place
    return None


def is_packaged(program: Path, service: Service) -> bool:
    return service.system and program == PACKAGED_PROGRAM and (PACKAGED_UNITS / DAEMON_UNIT).is_file()


def setup_service(settings: Settings, *, dry_run: bool) -> None:
    """Install and start the service where systemd runs the host."""
    service, program = find_service(), find_program()
    units = {} if is_packaged(program, service) else make_units(str(program), system=service.system)
    commands = [
        service.systemctl("daemon-reload"),
        service.systemctl("enable", DAEMON_UNIT, SHUTDOWN_UNIT),
        service.systemctl("restart", DAEMON_UNIT),
        service.systemctl("start", SHUTDOWN_UNIT),
    ]
    if not service.system:
        # Without it the user's manager, and with it the VMs, would end at log-out and not start at boot.
        commands.append(["loginctl", "enable-linger"])
    if dry_run:
        try:
            check_program(program, settings, system=service.system)
        except VolantError as error:
            click.echo(f"# not yet: {error.what}")
        for name, text in units.items():
            click.echo(f"cat > {service.folder / name} <<END\n{text}END")
        _show([["volar", "daemon", "stop"], *commands])
        return
    if not SYSTEMD.is_dir():
        click.echo("systemd does not run this host: volar starts the daemon when it is needed")
        return
    check_service(settings)
    _write(service, units)
    # One that volar started holds the state folder; VMs run on without it.
    stop_daemon(settings.socket, settings.state_dir / "volantd.log")
    for command in commands:
        run_tool(command, what=f"set up {DAEMON_UNIT}")
    click.echo(f"{DAEMON_UNIT} runs and will after each boot; {SHUTDOWN_UNIT} stops its VMs in order before")


def remove_service(settings: Settings, *, dry_run: bool) -> None:
    """Take the service away again. VMs run on; the next volar command starts a daemon, as without a service.

    The shutdown unit is disabled and not stopped: stopping it would stop the VMs.
    """
    service = find_service()
    units = [service.folder / name for name in (DAEMON_UNIT, SHUTDOWN_UNIT)]
    present = [unit for unit in units if unit.is_file()]
    if not present:
        click.echo(f"no units in {service.folder}")
        return
    names = [unit.name for unit in present]
    before = [service.systemctl("disable", *names), service.systemctl("stop", DAEMON_UNIT)]
    after = [service.systemctl("daemon-reload")]
    if dry_run:
        _show([*before, ["rm", *map(str, present)], *after])
        return
    if SYSTEMD.is_dir():
        for command in before:
            run_tool(command, what=f"take {DAEMON_UNIT} away")
    for unit in present:
        unit.unlink()
    if SYSTEMD.is_dir():
        for command in after:
            run_tool(command, what=f"take {DAEMON_UNIT} away")
    click.echo(f"removed {' and '.join(names)} from {service.folder}; VMs run on")


def _write(service: Service, units: Mapping[str, str]) -> None:
    try:
        service.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for name, text in units.items():
            draft = service.folder / f".{name}.new"
            draft.write_text(text)
            draft.chmod(0o644)
            draft.rename(service.folder / name)
    except OSError as error:
        raise NotPermitted(f"cannot write units to {service.folder}: {error.strerror}") from error


def _show(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        click.echo(" ".join(command))
