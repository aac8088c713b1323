# SPDX-License-Identifier: Apache-2.0
"""The agent's SSH doors in a real guest: people's own clients, secrets, broken streams, memory, user-data."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from support.busybox_guest import make_busybox_root
from support.guest_harness import (
    CACHE,
    Guest,
    GuestHarness,
    make_disk,
    make_harness,
    write_file,
)
from support.guest_ssh import RSS_LIMIT_KIB, SETTLE_SECONDS, connect, count_descriptors, read_rss_kib
from volant.contract.agent import SESSION_SOCKET
from volant.volantd.guest.connection import GuestConnection
from volant.volantd.guest.control import open_control

SECRETS = {9000: b"for everybody\n", 9001: b"for www only\n"}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("ssh"))


def make_root(folder: Path) -> Path:
    root = make_busybox_root(folder)  # without a socat: the agent answers it
    write_file(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
    write_file(root, "etc/group", "root:x:0:\nwww:x:33:\n")
    (root / "root").mkdir(mode=0o700, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    return root


async def ask_for_secret(connection: GuestConnection, port: int, user: str = "") -> tuple[int, bytes]:
    outcome = await connection.run(["socat", f"VSOCK-CONNECT:2:{port}", "STDOUT"], user=user)
    return outcome.exit_code, outcome.stdout


async def check_secrets(connection: GuestConnection) -> None:
    code, _ = await ask_for_secret(connection, 9000)
    assert code != 0, "a port answered before the host had opened it"

    async def answer(port: int) -> bytes:
        return SECRETS[port]

    await connection.answer_secrets(list(SECRETS), answer)
    assert await ask_for_secret(connection, 9000) == (0, SECRETS[9000])
    assert await ask_for_secret(connection, 9000, user="www") == (0, SECRETS[9000])
    assert await ask_for_secret(connection, 9001, user="www") == (0, SECRETS[9001])
    assert (await ask_for_secret(connection, 9001))[1] == b"", "root got what only user 33 may ask for"
    assert (await ask_for_secret(connection, 9002))[0] != 0, "a port without a secret is open"


async def run_client(*command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    stdout, stderr = await process.communicate(stdin)
    return process.returncode or 0, stdout, stderr


async def check_clients(connection: GuestConnection, harness: GuestHarness, folder: Path) -> None:
    """ssh, scp and sftp as people have them, through the host's connection to the guest's session server."""
    key = folder / "person"
    await run_client("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    bridge = folder / "bridge.sock"
    config = folder / "ssh_config"
    config.write_text(
        f"Host *\n IdentityFile {key}\n IdentitiesOnly yes\n StrictHostKeyChecking yes\n LogLevel ERROR\n"
        f" UserKnownHostsFile {folder / 'known_hosts'}\n ProxyCommand socat - UNIX-CONNECT:{bridge}\n"
    )
    ssh = ("ssh", "-F", str(config))
    async with (
        await connection.ssh.forward_local_path(str(bridge), SESSION_SOCKET),
        open_control(connection) as control,
    ):
        host_key = (harness.folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"guest {host_key}")
        code, _, stderr = await run_client(*ssh, "root@guest", "true")
        assert code == 255 and b"Permission denied" in stderr, (
            "a key that was not authorized opened a session"
        )
        told = await control.authorize_ssh(key.with_suffix(".pub").read_text(), 600)
        assert told.split()[:2] == host_key.split()[:2]
        code, stdout, stderr = await run_client(*ssh, "root@guest", "cat; echo err >&2; exit 9", stdin=b"in")
        assert (code, stdout, stderr) == (9, b"in", b"err\n")
        assert (await run_client(*ssh, "www@guest", "id -u"))[1] == b"33\n"
        code, stdout, _ = await run_client(*ssh, "-tt", "root@guest", "tty; echo $TERM")
        assert code == 0 and stdout.startswith(b"/dev/pts/")
        local = folder / "local"
        local.write_bytes(bytes(range(256)) * 4096)
        for user, place in (("root", "/root/copy"), ("www", "/tmp/copy")):
            code, _, stderr = await run_client("scp", "-F", str(config), str(local), f"{user}@guest:{place}")
            assert code == 0, (user, stderr)
            assert (
                await run_client("scp", "-F", str(config), f"{user}@guest:{place}", str(folder / "back"))
            )[0] == 0
            assert (folder / "back").read_bytes() == local.read_bytes()
        code, _, _ = await run_client("scp", "-F", str(config), str(local), "www@guest:/root/forbidden")
        assert code != 0, "another user wrote into root's folder"
        batch = b"mkdir /tmp/made\nput " + bytes(local) + b" /tmp/made/file\nls /tmp/made\n"
        code, stdout, _ = await run_client("sftp", "-F", str(config), "-b", "-", "root@guest", stdin=batch)
        assert code == 0 and b"/tmp/made/file" in stdout


async def check_broken_streams(harness: GuestHarness, guest: Guest) -> None:
    """A host that is gone without a word is replaced at once, also in the middle of much output."""
    for attempt in range(6):
        async with connect(harness, guest) as connection:
            process = await connection.ssh.create_process("cat /dev/zero", encoding=None)
            assert await process.stdout.read(1000)
            if attempt % 2:
                await asyncio.sleep(0.2)  # with the queue towards the host full
    async with connect(harness, guest) as connection:
        async with asyncio.timeout(60):
            await connection.run(["sh", "-c", "while pgrep -x cat; do sleep 0.1; done"])


async def check_memory(connection: GuestConnection, folder: Path) -> None:
    big = folder / "big"
    big.write_bytes(b"0123456789abcdef" * (4 << 20))
    sessions = [connection.run(["sh", "-c", "sleep 1; seq 20000"]) for _ in range(8)]
    async with connection.ssh.start_sftp_client() as sftp:
        await asyncio.gather(sftp.put(str(big), "/tmp/big"), *sessions)
        assert (await sftp.stat("/tmp/big")).size == 64 << 20
    await connection.run(["rm", "/tmp/big"])
    await asyncio.sleep(SETTLE_SECONDS)  # asking meanwhile would keep memory from being given back
    size = await read_rss_kib(connection)
    print(f"agent after 8 sessions and a 64 MB put: {size / 1024:.1f} MiB")
    assert size <= RSS_LIMIT_KIB


@pytest.mark.guide("8.3-2")
async def test_ssh_secrets_and_streams(harness: GuestHarness, tmp_path: Path) -> None:
    disk = make_disk(make_root(tmp_path / "root"), tmp_path / "disk.img")
    settings = {
        "workload": {"entrypoint": ["/bin/sleep", "100000"]},
        "secrets": [{"port": 9000}, {"port": 9001, "uid": 33}],
    }
    with harness.boot(disk, settings=settings) as guest:
        guest.wait_for("boot: main to exec")
        async with connect(harness, guest) as connection:
            await check_secrets(connection)
            await check_clients(connection, harness, tmp_path)
            before = await count_descriptors(connection)
        await check_broken_streams(harness, guest)
        async with connect(harness, guest) as connection:
            # At the first count the ports of the secrets were open.
            assert await count_descriptors(connection) <= before, "broken streams left descriptors behind"
            await check_memory(connection, tmp_path)


USER_DATA = """# comments above the first line, as people write them

#cloud-config
hostname: renamed
write_files:
  - path: /etc/environment
    content: |
      GREETING=from user-data
  - {path: /late, content: late, defer: true, owner: 'alice:alice', permissions: '0640'}
users:
  - name: alice
    groups: [staff]
    expiredate: '2038-01-19'
    doas: [permit alice]
    ssh_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0yd0dQ1vXKtGYg8PSLJrQbmZtRJH2eYjgLCD2nDGCW a"]
swap: {filename: /swap.img, size: 4M}
mounts:
  - [tmpfs, /scratch, tmpfs, size=1M]
  - [tmpfs, /later, tmpfs, noauto]
  - [vdz, /missing, ext4, nofail]
bootcmd:
  - [cloud-init-per, once, a-name, sh, -c, echo first >> /per]
  - cloud-init-per once a-name sh -c 'echo second >> /per'
  - cloud-init-per instance a-name sh -c 'echo instance >> /per; exit 3' || echo $? >> /per
runcmd:
  - [sh, -c, "echo $0 > /ran", list]
  - echo string >> /ran
packages: [curl]
snap: {}
"""


async def test_user_data_is_applied_before_the_workload_starts(harness: GuestHarness, tmp_path: Path) -> None:
    disk = make_disk(make_root(tmp_path / "root"), tmp_path / "disk.img")
    encoded = base64.b64encode(USER_DATA.encode()).decode()
    workload = ["/bin/sh", "-c", 'echo "workload has $GREETING"; cat /ran; exec sleep 100000']
    settings = {
        "workload": {"entrypoint": workload},
        "cloud_init": {"instance_id": "i-1", "user_data_base64": encoded},
    }
    with harness.boot(disk, settings=settings) as guest:
        guest.wait_for("workload has from user-data")
        guest.wait_for("string")
        async with connect(harness, guest) as connection, open_control(connection) as control:
            async with asyncio.timeout(60):
                async for state in control.follow_state():
                    if state.cloud_init.status != "running":
                        break
            assert state.cloud_init.by == "kestrel"
            assert state.cloud_init.unknown_modules == ["snap", "users[].doas"]
            assert len(state.cloud_init.errors) == 1 and "packages" in state.cloud_init.errors[0]
            commands = {
                "hostname": "renamed\n",
                "grep -c '^127.0.1.1 renamed$' /etc/hosts": "1\n",
                "cat /per": "first\ninstance\n3\n",
                "grep ' /[sl][a-z]* tmpfs ' /proc/mounts | cut -d ' ' -f 2": "/scratch\n",
                "grep alice /etc/shadow | cut -d : -f 2,8": "!:24855\n",
                "cat /ran": "list\nstring\n",
                "stat -c '%a %u:%g' /late": "640 1000:1001\n",
                "id alice": "uid=1000(alice) gid=1001(alice) groups=1001(alice),1000(staff)\n",
                "grep -c /swap.img /proc/swaps": "1\n",
            }
            for command, wanted in commands.items():
                outcome = await connection.run(["sh", "-c", command])
                assert outcome.stdout.decode() == wanted, (command, outcome)
            # A key of user-data and no sshd in the image: the agent answers on the network.
            async with connection.open_port_stream(22) as (reader, _):
                assert (await reader.read(4)) == b"SSH-"


@pytest.fixture(scope="module")
def cloud_init_tar() -> Path:
    """Debian with its own cloud-init."""
    tar = CACHE / "debian-cloud-init.tar"
    if not tar.exists():
        part = tar.with_suffix(".part")
        subprocess.run(
            [
                "mmdebstrap", "--variant=minbase", "--quiet", "--format=tar", "--include=cloud-init",
                "bookworm", str(part),
            ],
            check=True, timeout=600,
        )  # fmt: skip
        part.rename(tar)
    return tar


# A minimal Debian has no locales, about which its cloud-init complains unless told not to set one.
NATIVE_USER_DATA = """# a comment
#cloud-config
locale: false
write_files:
  - {path: /written, content: by cloud-init}
runcmd:
  - [sh, -c, "echo ran > /ran"]
"""


async def test_the_images_own_cloud_init_runs(
    harness: GuestHarness, cloud_init_tar: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    await run_client("tar", "-xf", str(cloud_init_tar), "-C", str(root))
    disk = make_disk(root, tmp_path / "disk.img", "1G")
    shutil.rmtree(root)
    settings = {
        "workload": {"entrypoint": ["/bin/sh", "-c", "cat /written; echo; exec sleep 100000"]},
        "cloud_init": {
            "instance_id": "i-1",
            "user_data_base64": base64.b64encode(NATIVE_USER_DATA.encode()).decode(),
        },
    }
    with harness.boot(disk, settings=settings, memory_mb=512) as guest:
        guest.wait_for("[workload] by cloud-init", 300)
        async with connect(harness, guest) as connection, open_control(connection) as control:
            async with asyncio.timeout(300):
                async for state in control.follow_state():
                    if state.cloud_init.status != "running":
                        break
            assert (state.cloud_init.by, state.cloud_init.status) == ("cloud-init", "done"), state.cloud_init
            assert (await connection.run(["cat", "/ran"])).stdout == b"ran\n"
