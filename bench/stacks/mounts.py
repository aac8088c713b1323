# SPDX-License-Identifier: Apache-2.0
"""mount-git-status-vs-local: git status of 5,000 files in a folder of the host, over the same on the VM's own disk.

One VM has both, the one on its disk from its image, and both repositories know their files' times (one `git status`
before). The two alternate. What is asked first after a boot, when nothing of the folder is in the guest, is noted
beside it, and so is the speed at which a file is read from end to end that the guest has not read before.
"""

from __future__ import annotations

import random
import statistics
import subprocess
from pathlib import Path

from bench.own_folder import make_own_folder
from bench.own_host import OwnHost
from bench.results import note, ratio

FOLDERS, FILES_EACH = 100, 50
ROUNDS = 7
READ_MIB = 128
LOCAL, MOUNTED = "/root/local", "/mounted"
DOCKERFILE = """FROM localhost/debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY repository /root/local
CMD ["/bin/sleep", "infinity"]
"""


def main() -> None:
    with make_own_folder() as folder:
        host, project = OwnHost(folder), folder / "git"
        repository = project / "repository"
        make_repository(repository)
        (project / "Dockerfile").write_text(DOCKERFILE)
        host.install(project, "git")
        mount = f"{repository}:{MOUNTED}"
        host.run("volar", "vms", "create", "git", "-p", "git", "--mount", mount, "--memory", "512")
        run_in_guest(host, f"for it in {LOCAL} {MOUNTED}; do git -C $it status; done; sync")
        host.run("volar", "vms", "restart", "git")
        first = ask(host, LOCAL), ask(host, MOUNTED)
        local, mounted = zip(*((ask(host, LOCAL), ask(host, MOUNTED)) for _ in range(ROUNDS)), strict=True)
        speeds = read_file(host, LOCAL), read_file(host, MOUNTED)
    for place, once, repeated in (("local", first[0], local), ("mounted", first[1], mounted)):
        note(f"{place}-git-status-first-s", round(once, 2))
        note(f"{place}-git-status-s", round(statistics.median(repeated), 3))
    note("local-read-mib-per-s", round(speeds[0], 1))
    note("mounted-read-mib-per-s", round(speeds[1], 1))
    note("mount-git-status-first-vs-local", round(first[1] / first[0], 2))
    times = zip(local, mounted, strict=True)
    ratio("mount-git-status-vs-local", statistics.median(there / here for here, there in times))


def make_repository(repository: Path) -> None:
    source = random.Random(1)  # the same every time
    for number in range(FOLDERS):
        part = repository / f"part{number // 10}" / f"folder{number}"
        part.mkdir(parents=True)
        for file in range(FILES_EACH):
            (part / f"file{file}.txt").write_bytes(source.randbytes(source.randrange(200, 4000)))
    (repository / ".gitignore").write_text("/large\n")
    for words in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "all"),
    ):
        subprocess.run(("git", "-C", str(repository), *words), check=True)
    (repository / "large").write_bytes(source.randbytes(READ_MIB << 20))


def run_in_guest(host: OwnHost, script: str) -> str:
    return host.run("volar", "vms", "exec", "git", "--", "sh", "-ec", script)


def measure(host: OwnHost, script: str) -> float:
    """Seconds by the guest's clock: how long the way there takes is not counted."""
    began, ended = run_in_guest(host, f"date +%s%N; {script}; date +%s%N").split()
    return (int(ended) - int(began)) / 1e9


def ask(host: OwnHost, place: str) -> float:
    return measure(host, f"git -C {place} status --porcelain")


def read_file(host: OwnHost, place: str) -> float:
    """MiB a second of a file that is in no cache of the guest."""
    run_in_guest(host, "sync; echo 3 > /proc/sys/vm/drop_caches")
    return READ_MIB / measure(host, f"dd if={place}/large of=/dev/null bs=1M status=none")
