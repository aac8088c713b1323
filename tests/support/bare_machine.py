# SPDX-License-Identifier: Apache-2.0
"""A machine that lacks something: this one, seen from mount namespaces in which programs, ids or folders are hidden.

What runs there runs the real builders. The host's own files stay as they are: /usr/bin is covered by an overlay,
/etc/passwd, /etc/subuid and others by files of the test's own, for the processes of the test alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import volant

USER = "volant-bare"
USER_ID = 44242
# Covers what is to be hidden, then becomes the command; all its settings come by the environment.
COVER = """\
set -eu
mount -t tmpfs tmpfs "$COVERS"
chmod 755 "$COVERS"
mkdir "$COVERS/upper" "$COVERS/work" "$COVERS/checkout" "$COVERS/packages"
mount -t overlay -o "lowerdir=/usr/bin,upperdir=$COVERS/upper,workdir=$COVERS/work" overlay /usr/bin
for name in $HIDDEN; do rm -f "/usr/bin/$name"; done
# The checkout may lie where only root comes to.
mount --bind "$CHECKOUT" "$COVERS/checkout"
mount --bind "$PACKAGES" "$COVERS/packages"
cp /etc/passwd /etc/group "$COVERS"
echo "$USER_NAME:x:$USER_ID:$USER_ID::$USER_HOME:/bin/sh" >> "$COVERS/passwd"
echo "$USER_NAME:x:$USER_ID:" >> "$COVERS/group"
: > "$COVERS/subids"
[ -z "$SUBIDS" ] || echo "$USER_NAME:$SUBIDS" > "$COVERS/subids"
for file in passwd group; do mount --bind "$COVERS/$file" "/etc/$file"; done
for file in subuid subgid; do mount --bind "$COVERS/subids" "/etc/$file"; done
if [ -n "$READ_ONLY" ]; then mount --bind "$READ_ONLY" "$READ_ONLY" && mount -o remount,bind,ro "$READ_ONLY"; fi
[ -n "$NO_USER_NAMESPACES" ] || exec "$@"
# The limit is a user namespace's own, so it is set inside of one, in which all ids are as they are outside.
mkfifo -m 666 "$COVERS/made" "$COVERS/mapped"
unshare --user sh -c 'echo > "$COVERS/made"; read _ < "$COVERS/mapped"; exec sh -c "$0" sh "$@"' \
    'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"' "$@" &
read _ < "$COVERS/made"
for map in uid_map gid_map; do echo 0 0 65536 > "/proc/$!/$map"; done
echo > "$COVERS/mapped"
wait "$!"
"""


@dataclass(frozen=True)
class BareMachine:
    """`folder` is the home of whoever runs things there; `is_user`: an ordinary user, with `subids` to give away."""

    folder: Path
    is_user: bool = False
    hidden: tuple[str, ...] = ()
    subids: str = "200000:65536"
    read_only: str = ""
    has_user_namespaces: bool = True
    extra: tuple[tuple[str, str], ...] = ()

    def command(self, *arguments: str) -> list[str]:
        settings = {
            "COVERS": self.covers(), "HIDDEN": " ".join(self.hidden), "USER_NAME": USER, "USER_ID": str(USER_ID),
            "CHECKOUT": str(Path(volant.__file__).parent.parent), "PACKAGES": sysconfig.get_path("purelib"),
            "USER_HOME": str(self.folder), "SUBIDS": self.subids, "READ_ONLY": self.read_only,
            "NO_USER_NAMESPACES": "" if self.has_user_namespaces else "1", "PATH": os.environ["PATH"],
        }  # fmt: skip
        become = (
            ["setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups"] if self.is_user else []
        )
        return [
            "env", "-i", *(f"{name}={value}" for name, value in settings.items()),
            "unshare", "--mount", "--propagation=private", "bash", "-c", COVER, "bash", *become, "env", "-i",
            *(f"{name}={value}" for name, value in self.environment().items()), *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder),
            "VOLANT_HOME": str(self.folder / "volant"), "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "PYTHONPATH": f"{self.covers()}/checkout:{self.covers()}/packages", "PYTHONDONTWRITEBYTECODE": "1",
            **({"CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")} if not self.is_user else {}),
            **dict(self.extra),
        }  # fmt: skip

    def covers(self) -> str:
        return f"{self.folder}.covers"

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.folder,
            text=True,
            capture_output=True,
            timeout=800,
            check=False,
        )

    def fledge(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(*fledge_command(), *arguments, cwd=cwd)


def fledge_command() -> list[str]:
    # The virtual environment's python is a link to this one, which other users may run.
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return [str(python), "-m", "volant.fledge.cli"]


@contextmanager
def make_home() -> Iterator[Path]:
    """A home folder that an ordinary user reaches, with an empty image store for root; gone with all below it."""
    folder = Path(tempfile.mkdtemp(prefix="volant-bare-", dir="/tmp"))
    try:
        Path(f"{folder}.covers").mkdir()
        (folder / "run").mkdir(mode=0o700)
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run/store"\n'
            "[storage.options]\n"
        )
        yield folder
    finally:
        _end_pause_process(folder)
        subprocess.run(["umount", "--lazy", f"{folder}/graph/overlay"], capture_output=True, check=False)
        Path(f"{folder}.covers").rmdir()
        shutil.rmtree(folder)


def give_to_user(folder: Path) -> None:
    subprocess.run(["chown", "-R", f"{USER_ID}:{USER_ID}", str(folder)], check=True)


def _end_pause_process(folder: Path) -> None:
    """podman keeps a process that holds a user's namespaces; it goes with the user."""
    for pid in find_processes(folder):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def find_processes(folder: Path) -> list[int]:
    """The processes whose home is a folder."""
    found: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={folder}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found
