# SPDX-License-Identifier: Apache-2.0
"""What a VM's hypervisor may do on this host: nothing but run this VM (`confine` is the program that sees to it).

Each VM's QEMU is held by Landlock to its own files and, where the daemon is root, is a user of its own without any
capability, before which the rest of the state folder is not even there. What a host lacks is left out and said.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.errors import ToolFailed
from volant.process import run_tool
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.base import FIRST_TAP_DESCRIPTOR, StreamNic, TapNic, UserNic, VmSpec

logger = logging.getLogger(__name__)

# systemd's list of user ids leaves 1879048192 to 2147483647 to nobody (https://systemd.io/UIDS-GIDS).
FIRST_USER = 0x7000_0000
USER_COUNT = 0x0F00_0000
# Where distributions keep programs, libraries and firmware.
PROGRAM_FOLDERS = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/opt",
    "/snap",
)
READ_PATHS = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/qemu", "/proc", "/sys/devices/system")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
KVM = "/dev/kvm"
# What QEMU's own user-mode network asks names of.
RESOLVER_PATHS = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/run/systemd/resolve")


@dataclass(frozen=True, slots=True)
class Confinement:
    """How far this host goes. `has_users`: one user a VM, in a mount namespace of its own; `landlock`: its version."""

    has_users: bool
    landlock: int

    def describe(self) -> str:
        files = f"Landlock {self.landlock}" if self.landlock else "no Landlock (Linux 5.13 has it)"
        if os.geteuid() != 0:
            return f"{files}, no new privileges"
        who = "a user of its own for each VM" if self.has_users else "root without capabilities for every VM"
        return f"{files}, {who}, no new privileges"


@functools.lru_cache(maxsize=1)
def find_confinement() -> Confinement:
    """What works here, found out by trying once; blocking."""
    landlock = confine.find_landlock_version()
    found = Confinement(os.geteuid() == 0 and _can_change_user(), landlock)
    logger.info("VMs are confined by: %s", found.describe())
    return found


def _can_change_user() -> bool:
    """Containers may lack the user ids, the capability or the right to mount."""
    options = [f"--hide={tempfile.gettempdir()}", f"--user={FIRST_USER}", "--program=/"]
    try:
        run_tool([*make_launcher(), *options, "--", "/bin/true"], timeout_seconds=30)
    except ToolFailed as error:
        logger.warning("VMs share one user: %s", error.details[0] if error.details else error.what)
        return False
    return True


def make_launcher() -> list[str]:
    return [sys.executable, "-I", "-S", "-B", confine.__file__]


def choose_user(vm_id: str) -> int:
    return FIRST_USER + int(vm_id, 16) % USER_COUNT


def make_confined_arguments(
    spec: VmSpec,
    command: Sequence[str],
    state_dir: Path | None,
    confinement: Confinement,
    group: Path | None = None,
    *,
    folders: Sequence[Path] = (),
    opens_taps: bool = True,
) -> list[str]:
    """What `confine` is told to become the hypervisor's command. The VM's files are given to its user here. `group`:
    the control group that holds the VM; `folders`: where it may do as it likes; `opens_taps`: it gets them opened."""
    options = [*list_options(spec, command[0]), *([] if confinement.landlock else ["--any-file"])]
    options += [f"--folder={folder}" for folder in folders]
    if not opens_taps:
        options = [option for option in options if not option.startswith("--tap=")]
    if group is not None:
        options.append(f"--group={group}")
    groups = list_groups(Path(KVM)) if spec.accelerator == "kvm" else []
    if (
        confinement.has_users
        and state_dir is not None
        and groups is not None
        and _is_reachable(spec, state_dir)
    ):
        user = choose_user(spec.id)
        give_files(spec, user, state_dir, folders)
        options += [f"--hide={state_dir}", f"--user={user}", *(f"--groups={group}" for group in groups)]
    return [*options, "--", *command]


def list_groups(device: Path) -> list[int] | None:
    """What a user must be in to open a device; None where only root may, as on hosts without udev."""
    status = device.stat()
    if status.st_mode & 0o006 == 0o006:
        return []
    return [status.st_gid] if status.st_mode & 0o060 == 0o060 and status.st_gid != 0 else None


def make_probe_command(command: Sequence[str], files: Sequence[Path]) -> list[str]:
    """A test guest's command: it reads `files`, has KVM, and ends with us, however we end."""
    options = [f"--program={folder}" for folder in _list_program_folders(command[0])]
    options += [f"--read={path}" for path in (*READ_PATHS, *files)]
    options += [f"--write={path}" for path in DEVICES]
    return [*make_launcher(), "--die-with-parent", f"--device={KVM}", *options, "--", *command]


def _list_program_folders(program: str) -> list[str]:
    return [*PROGRAM_FOLDERS, str(Path(program).resolve().parent)]


def list_options(spec: VmSpec, program: str) -> list[str]:
    """What this VM needs: a pure function of it."""
    options = [f"--program={folder}" for folder in _list_program_folders(program)]
    options += [f"--read={path}" for path in (*READ_PATHS, *_list_read_files(spec))]
    options += [f"--write={path}" for path in (*_list_written_files(spec), *DEVICES)]
    options.append(f"--sockets={spec.socket_folder}")
    if spec.accelerator == "kvm":
        options.append(f"--device={KVM}")
    for index, nic in enumerate(spec.nics):
        if isinstance(nic, TapNic):
            options.append(f"--tap={nic.tap}:{FIRST_TAP_DESCRIPTOR + index}")
        elif isinstance(nic, UserNic):
            options += ["--network", *(f"--read={path}" for path in RESOLVER_PATHS)]
            if any(port.host_port < 1024 for port in nic.published):
                options.append("--low-ports")
    return options


def _list_written_files(spec: VmSpec) -> list[Path]:
    """QEMU maps the pages that it wakes from privately, and opens their file for writing all the same (before 8.2)."""
    image = spec.wakes_from
    pages = [image.memory] if image is not None and image.has_pages and not image.is_copied else []
    variables = [spec.uefi[1]] if spec.uefi is not None else []
    return [*(disk.path for disk in spec.disks if not disk.read_only), spec.console_log, *pages, *variables]


def _list_read_files(spec: VmSpec) -> list[Path]:
    disks = [path for disk in spec.disks for path in ((disk.path,) if disk.read_only else disk.backing)]
    code = spec.uefi[0] if spec.uefi is not None else None
    return [path for path in (*disks, spec.kernel, spec.initrd, code) if path is not None]


def give_files(spec: VmSpec, user: int, state_dir: Path, folders: Sequence[Path] = ()) -> None:
    """The VM's folder and what it writes belong to its user; what it shares with other VMs can be read by all users,
    behind a state folder that none of them can enter."""
    own = spec.socket_folder
    sockets = [nic.socket for nic in spec.nics if isinstance(nic, StreamNic)]
    for bits, paths in (
        (0o666, _list_written_files(spec)),
        (0o444, [own, *folders, *sockets, *_list_read_files(spec)]),
    ):
        for path in paths:
            if path == own or own in path.parents:
                os.chown(path, user, user)
            elif state_dir in path.parents:
                path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)


def _is_reachable(spec: VmSpec, state_dir: Path) -> bool:
    """Whether another user finds the way to everything that lies outside of the hidden folder."""
    if state_dir not in spec.socket_folder.parents:
        return False
    outside = [path for path in _list_read_files(spec) if state_dir not in path.parents]
    folders = {parent for path in (*outside, state_dir) for parent in path.parents}
    return all(folder.stat().st_mode & 0o001 for folder in folders) and all(
        path.stat().st_mode & 0o004 for path in outside
    )
