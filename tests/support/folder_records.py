# SPDX-License-Identifier: Apache-2.0
"""All that a folder holds, as records that can be compared; as a program, what mounted disk images hold.

python tests/folder_records.py MOUNTPOINT IMAGE...     in a mount namespace of its own; prints a pickle
"""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_folder(root: Path) -> dict[bytes, Record]:
    records: dict[bytes, Record] = {}
    names: dict[int, list[bytes]] = defaultdict(list)
    pending = [b""]
    while pending:
        path = pending.pop()
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        record = records[path] = {
            "mode": status.st_mode, "owner": (status.st_uid, status.st_gid), "mtime": status.st_mtime_ns,
            "xattrs": sorted(
                (name, os.getxattr(full, name, follow_symlinks=False))
                for name in os.listxattr(full, follow_symlinks=False)
            ),
        }  # fmt: skip
        if stat.S_ISDIR(status.st_mode):
            pending.extend(os.path.join(path, name) for name in os.listdir(full))
        else:
            names[status.st_ino].append(path)
        if stat.S_ISREG(status.st_mode):
            record["content"] = Path(os.fsdecode(full)).read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            record["target"] = os.readlink(full)
        elif not stat.S_ISDIR(status.st_mode):
            record["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    for group in names.values():
        for path in group:
            records[path]["links"] = sorted(group)
    return records


def read_mounted(images: list[Path], folder: Path) -> list[dict[bytes, Record]]:
    """What this machine's kernel finds on each image. Needs root and loop devices."""
    folder.mkdir()
    command = ["unshare", "--mount", sys.executable, __file__, str(folder), *map(str, images)]
    found: list[dict[bytes, Record]] = pickle.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    )
    return found


def can_mount() -> bool:
    """Whether this process may make a mount namespace and has loop devices to mount in it."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


def main(folder: str, images: list[str]) -> None:
    found = []
    for image in images:
        subprocess.run(["mount", "-o", "loop,ro", image, folder], check=True)
        found.append(read_folder(Path(folder)))
        subprocess.run(["umount", folder], check=True)
    sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
