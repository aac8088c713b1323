# SPDX-License-Identifier: Apache-2.0
"""The program that becomes a hypervisor: it gives up everything that this VM does not need, then executes QEMU.

Runs alone (`python -I -S confine.py OPTION… -- PROGRAM ARGUMENT…`) or as a fork of the fork server, with the standard
library only. What it does, in
this order and each only where an option says so: join a control group, open tap devices, hide a folder behind an empty
one in a mount namespace, drop capabilities, become another user, die with its parent, allow no new privileges, and
allow by Landlock (Documentation/userspace-api/landlock.rst) only the files that are named. Whatever fails ends it with
exit code 125: nothing is ever started with more than was asked for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import stat
import struct
import sys

FAILED = 125
_LIBC = ctypes.CDLL(None, use_errno=True)

# linux/prctl.h, linux/sched.h, linux/mount.h, linux/if_tun.h, linux/capability.h
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 24, 38, 47
PR_CAP_AMBIENT_RAISE = 2
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 2, 0x1000, 0x4000
CAP_NET_BIND_SERVICE, CAPABILITY_VERSION = 10, 0x20080522

# linux/landlock.h; the numbers of the three calls are the same on every architecture.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, MAKE_SOCK = (
    1,
    2,
    4,
    8,
    1 << 5,
    1 << 8,
    1 << 9,
)
REMOVE_DIR, MAKE_DIR, MAKE_FIFO, MAKE_SYM, REFER = 1 << 4, 1 << 7, 1 << 10, 1 << 12, 1 << 13
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
# What each version of the interface can restrict among files: all of it is, and given back where it is named.
HANDLED_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
LATEST_FILES = (1 << 16) - 1
NETWORK_SINCE, BIND_AND_CONNECT_TCP = 4, 3
SCOPES_SINCE, ABSTRACT_SOCKETS_AND_SIGNALS = 6, 3
RIGHTS = {
    "--program": EXECUTE | READ_FILE | READ_DIR,
    "--read": READ_FILE | READ_DIR,
    "--write": READ_FILE | WRITE_FILE | TRUNCATE,
    "--device": READ_FILE | WRITE_FILE | IOCTL_DEV,
    "--sockets": MAKE_SOCK | READ_DIR,
    # What a guest has of the host's folders: everything in them but devices and running programs.
    "--shared": READ_FILE
    | WRITE_FILE
    | TRUNCATE
    | READ_DIR
    | REMOVE_FILE
    | REMOVE_DIR
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER,
    "--shared-file": READ_FILE | WRITE_FILE | TRUNCATE,
    "--folder": READ_FILE | WRITE_FILE | TRUNCATE | READ_DIR | MAKE_REG | MAKE_SOCK | REMOVE_FILE,
}
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


def call(name: str, *arguments: object) -> int:
    """A function of the C library whose -1 is an OSError."""
    result = int(getattr(_LIBC, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def find_landlock_version() -> int:
    """The version of Landlock's interface that this kernel has; 0 where it has none or it is switched off."""
    return max(0, int(_LIBC.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def join_group(folder: str) -> None:
    """Count as part of a control group from here on, with all memory that is still to be taken."""
    descriptor = os.open(f"{folder}/cgroup.procs", os.O_WRONLY)
    os.write(descriptor, b"0")
    os.close(descriptor)


def open_tap(name: str) -> int:
    """A descriptor of a tap device that exists."""
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(opened, TUNSETIFF, request)
    except BaseException:
        os.close(opened)
        raise
    return opened


def pass_tap(name: str, descriptor: int) -> None:
    """The tap device under a number that the hypervisor's arguments name."""
    opened = open_tap(name)
    if opened == descriptor:
        os.set_inheritable(opened, True)
    else:
        os.dup2(opened, descriptor, inheritable=True)
        os.close(opened)


def hide(folder: str, shown: list[str]) -> None:
    """In a mount namespace of our own an empty folder covers `folder`; in it are the paths of `shown`, as they were."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    held = {path: os.open(path, os.O_PATH) for path in shown if path.startswith(f"{folder}/")}
    flags = MS_NOSUID | MS_NODEV
    before = os.umask(0o022)  # the way to what is shown is open to whoever this becomes
    call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(flags), b"size=1m,mode=755")
    for path, descriptor in sorted(held.items()):
        if os.path.lexists(path):
            continue  # it lies in one that is there already
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.makedirs(path)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        source = f"/proc/self/fd/{descriptor}".encode()
        call("mount", source, os.fsencode(path), None, ctypes.c_ulong(MS_BIND), None)
        os.close(descriptor)
    os.umask(before)
    call(
        "mount",
        None,
        os.fsencode(folder),
        None,
        ctypes.c_ulong(MS_REMOUNT | MS_RDONLY | MS_BIND | flags),
        None,
    )


def drop_capabilities(kept: int | None) -> None:
    """None is left to gain by executing anything; `kept` alone outlives becoming another user."""
    number = 0
    while True:
        if number != kept and _LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break  # beyond the last one that this kernel has
        number += 1
    if kept is not None:
        call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)


def become_user(user: int, groups: list[int], kept: int | None) -> None:
    os.setgroups(groups)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if kept is not None:
        mask = 1 << kept
        header = struct.pack("Ii", CAPABILITY_VERSION, 0)
        call("capset", header, struct.pack("6I", mask, mask, mask, 0, 0, 0))
        call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0)


def clear_capabilities() -> None:
    """For a root that stays root: it owns its files, and may do nothing else that others may not."""
    call("capset", struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24))


def restrict_files(rules: list[tuple[str, str]], *, has_network: bool) -> None:
    """Only the named files from here on, no TCP, and neither signals nor abstract sockets to others."""
    version = find_landlock_version()
    if version == 0:
        return
    handled = HANDLED_FILES.get(version, LATEST_FILES)
    network = BIND_AND_CONNECT_TCP if version >= NETWORK_SINCE and not has_network else 0
    scopes = ABSTRACT_SOCKETS_AND_SIGNALS if version >= SCOPES_SINCE else 0
    fields = [handled, network, scopes][
        : 1 if version < NETWORK_SINCE else 2 if version < SCOPES_SINCE else 3
    ]
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = call(
        "syscall", LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    for kind, path in rules:
        try:
            beneath = os.open(path, os.O_PATH)
        except FileNotFoundError:
            continue  # distributions differ in what they have
        rights = RIGHTS[kind] & handled
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= FILE_RIGHTS
        rule = struct.pack("=Qi", rights, beneath)
        call("syscall", LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint32(0))
        os.close(beneath)
    call("syscall", LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)


def confine(options: list[tuple[str, str]]) -> None:
    given = dict(options)
    rules = [(name, value) for name, value in options if name in RIGHTS]
    if "--group" in given:
        join_group(given["--group"])
    for name, value in options:
        if name == "--tap":
            device, _, descriptor = value.partition(":")
            pass_tap(device, int(descriptor))
    if "--hide" in given:
        hide(given["--hide"], [path for _, path in rules])
    if os.geteuid() == 0:
        kept = CAP_NET_BIND_SERVICE if "--low-ports" in given else None
        drop_capabilities(kept)
        if "--user" in given:
            groups = [int(group) for group in given.get("--groups", "").split(",") if group]
            become_user(int(given["--user"]), groups, kept)
        else:
            clear_capabilities()
    if "--die-with-parent" in given:
        call("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "--any-file" not in given:
        restrict_files(rules, has_network="--network" in given)


def main(*arguments: str) -> None:
    end = arguments.index("--")
    pairs = (argument.partition("=") for argument in arguments[:end])
    command = arguments[end + 1 :]
    try:
        confine([(name, value) for name, _, value in pairs])
        os.execv(command[0], command)  # noqa: S606  # an argument list, no shell line
    except (OSError, ValueError) as error:
        print(f"cannot confine {command[0]}: {error}", file=sys.stderr, flush=True)
        os._exit(FAILED)


if __name__ == "__main__":
    main(*sys.argv[1:])
