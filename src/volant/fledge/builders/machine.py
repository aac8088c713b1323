# SPDX-License-Identifier: Apache-2.0
"""What podman and buildah need of a machine, for people to be told: a runtime and, for an ordinary user, namespaces
and a range of ids. Facts, each looked at where it is kept; whether a step runs is for trial.py to find out."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from volant.errors import ToolFailed, ToolMissing
from volant.fledge.builders.base import is_writable_folder
from volant.process import find_tool, run_tool

RUNTIMES = ("crun", "runc")
RANGE_IDS = 65536
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True)
class Obstacle:
    """Something in the way of image builders, and what takes it out of the way, in one line each."""

    subject: str
    fact: str
    cure: str


def find_runtimes() -> list[str]:
    """The container runtimes that are installed."""
    return [name for name in RUNTIMES if find_tool(name)]


def is_rootless() -> bool:
    """Whether podman and buildah work in a user namespace: for users, and for a root without its powers."""
    if os.geteuid() != 0:
        return True
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    powers = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return not int(powers, 16) >> _CAP_SYS_ADMIN & 1


def find_obstacles() -> list[Obstacle]:
    """What keeps podman and buildah from working for this user, the first to be removed first."""
    if not is_rootless():
        return []
    found = [find_namespace_obstacle(), *find_id_obstacles(), find_home_obstacle()]
    return [obstacle for obstacle in found if obstacle is not None]


def find_namespace_obstacle() -> Obstacle | None:
    """Whether this user may make a user namespace, found out by making one."""
    try:
        run_tool(["unshare", "--user", "--map-root-user", "true"], timeout_seconds=20)
        return None
    except ToolMissing:
        return None
    except ToolFailed:
        cure = "allow them to this container, or build elsewhere and give the image with --docker-archive"
        for name, bad, good in (
            ("user/max_user_namespaces", "0", "15000"),
            ("kernel/unprivileged_userns_clone", "0", "1"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ):
            try:
                value = Path("/proc/sys", name).read_text().strip()
            except OSError:
                continue
            if value == bad:
                cure = f"sudo sysctl -w {name.replace('/', '.')}={good}"
                break
        return Obstacle("user namespaces", "this user may not make user namespaces", cure)


def find_id_obstacles() -> Iterator[Obstacle]:
    """Whether this user has ids to give away, and the programs that map them."""
    for name in ("newuidmap", "newgidmap"):
        place = find_tool(name)
        if place is None:
            yield Obstacle("user ids", f"{name} is not installed", "sudo apt-get install uidmap")
            return
        if not _is_privileged(place):
            yield Obstacle(
                "user ids", f"{place} has no rights of its own", "sudo apt-get install --reinstall uidmap"
            )
            return
    user = read_user_name()
    for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if find_range(Path(path), user) is None:
            first = find_free_range(Path(path))
            yield Obstacle(
                "user ids", f"{path} gives {user} no {RANGE_IDS} ids",
                f"sudo usermod {option} {first}-{first + RANGE_IDS - 1} {user}, "
                "then 'podman system migrate' where podman is used",
            )  # fmt: skip


def _is_privileged(place: str) -> bool:
    if os.stat(place).st_mode & stat.S_ISUID:
        return True
    try:
        return bool(os.getxattr(place, "security.capability"))
    except OSError:
        return False


def read_user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read_ranges(path: Path) -> Iterator[tuple[str, int, int]]:
    """(user, first id, count) of each line of /etc/subuid or /etc/subgid (subuid(5)); others are skipped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        user, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.strip().isdecimal() and count.strip().isdecimal():
            yield user.strip(), int(first), int(count)


def find_range(path: Path, user: str) -> tuple[int, int] | None:
    """First id and count of a range that is large enough for an image, for a user by name or number."""
    for owner, first, count in read_ranges(path):
        if owner in (user, str(os.geteuid())) and count >= RANGE_IDS:
            return first, count
    return None


def find_free_range(path: Path) -> int:
    """The first id above everybody's ranges, at least that which distributions begin with."""
    return max((first + count for _, first, count in read_ranges(path)), default=0) or 100000


def find_home_obstacle() -> Obstacle | None:
    """Whether the folder that holds the user's images can be made or written."""
    place = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "containers"
    while not place.exists() and place != place.parent:
        place = place.parent
    if is_writable_folder(str(place)):
        return None
    return Obstacle("image storage", f"{place} cannot be written", "set HOME to a folder of this user's own")
