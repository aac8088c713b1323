# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: volant (volar, and what the others share), volant-fledge and volant-daemon.

All Python code lies in /usr/lib/volant, a virtual environment for the distribution's own Python: neither the
distribution's packages of our libraries, which are too old or missing, nor a user's count in it. What a package
holds beside it, and its control files, are in packaging/debian. The same sources give the same bytes.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

from python_tree import PYTHONS, Tree

HOME = Path("usr/lib/volant")
PROGRAMS = {"volant": ("volar", 1), "volant-fledge": ("fledge", 1), "volant-daemon": ("volantd", 8)}
# What pip writes for itself, with the build's own paths and in no order.
PIP_FILES = {"RECORD", "REQUESTED", "INSTALLER", "direct_url.json"}
COMPLETION = {
    "bash": "usr/share/bash-completion/completions/{}",
    "zsh": "usr/share/zsh/vendor-completions/_{}",
    "fish": "usr/share/fish/vendor_completions.d/{}.fish",
}


def make_packages(tree: Tree, root: Path, work: Path, target: Path) -> None:
    sys.path.insert(0, str(tree.folder))  # what is packaged tells its completion and its units
    owners = share_out(tree)
    for package in PROGRAMS:
        stage = work / package
        for path in (
            path for path, owner in owners.items() if owner == package and path.name not in PIP_FILES
        ):
            install(path, stage / HOME / "lib" / "site-packages" / path.relative_to(tree.folder))
        add_program(package, stage, root)
        if package == "volant":
            add_environment(stage)
            install_page(root / "docs" / "man" / "kestrel.8", stage)
        if package == "volant-daemon":
            add_service(stage, root)
        add_documents(package, stage, tree, root)
        build(package, stage, tree, root, target)


def share_out(tree: Tree) -> dict[Path, str]:
    """File → package. What both fledge and the daemon need, volar's package has."""
    fledge, daemon = tree.close("fledge"), tree.close("daemon")
    both = tree.close("") | (fledge & daemon)
    owners: dict[Path, str] = {}
    for name in {*fledge, *daemon, *both}:
        package = "volant" if name in both else "volant-fledge" if name in fledge else "volant-daemon"
        for path in tree.list_files(name):
            if owners.setdefault(path, package) != package:
                raise SystemExit(f"cannot share out {path}: two packages want it")
    for path in tree.list_files("volant"):
        part = path.relative_to(tree.folder).parts[1]
        owners[path] = {"fledge": "volant-fledge", "volantd": "volant-daemon"}.get(part, "volant")
    forgotten = [path for path in tree.folder.rglob("*") if path.is_file() and path not in owners]
    if forgotten:
        raise SystemExit(f"cannot share out {forgotten[0]}: nothing of volant's needs it")
    return owners


def install(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def write(target: Path, text: str, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def add_environment(stage: Path) -> None:
    """A virtual environment by hand: one site-packages under the name that each Python looks for."""
    home = stage / HOME
    write(home / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to("/usr/bin/python3")
    for python in PYTHONS:
        place = home / "lib" / f"python{python}"
        place.mkdir()
        (place / "site-packages").symlink_to("../site-packages")


def add_program(package: str, stage: Path, root: Path) -> None:
    program, section = PROGRAMS[package]
    # -I: nothing of the user's environment; -B: root leaves no compiled files that no package knows.
    launcher = f"#!/{HOME}/bin/python3 -IB\nfrom volant.programs import {program}\n\n{program}()\n"
    write(stage / "usr" / "bin" / program, launcher, 0o755)
    install_page(root / "docs" / "man" / f"{program}.{section}", stage)
    if program != "volantd":
        for shell, place in COMPLETION.items():
            write(stage / place.format(program), print_completion(program, shell))


def print_completion(program: str, shell: str) -> str:
    """The completion script as the program prints it; click asks for no more than the program's name."""
    import click
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None
    script: str = completer(click.Command(program), {}, program, f"_{program.upper()}_COMPLETE").source()
    return script + "\n"


def install_page(page: Path, stage: Path) -> None:
    folder = stage / "usr" / "share" / "man" / f"man{page.suffix[1:]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), 9, mtime=0))


def add_service(stage: Path, root: Path) -> None:
    from volant.volantd.units import make_units

    for name, text in make_units("/usr/bin/volantd", system=True).items():
        write(stage / "usr" / "lib" / "systemd" / "system" / name, text)
    files = root / "packaging" / "debian"
    install(files / "volant.sysusers", stage / "usr" / "lib" / "sysusers.d" / "volant.conf")
    install(files / "volant.tmpfiles", stage / "usr" / "lib" / "tmpfiles.d" / "volant.conf")
    install(files / "volantd.default", stage / "etc" / "default" / "volantd")


def add_documents(package: str, stage: Path, tree: Tree, root: Path) -> None:
    folder = stage / "usr" / "share" / "doc" / package
    write(folder / "copyright", (root / "packaging" / "debian" / "copyright").read_text())
    changes = (root / "CHANGELOG.md").read_bytes()
    (folder / "changelog.gz").write_bytes(gzip.compress(changes, 9, mtime=0))


def build(package: str, stage: Path, tree: Tree, root: Path, target: Path) -> None:
    files = root / "packaging" / "debian"
    size = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    control = (files / f"{package}.control").read_text().format(
        version=tree.version, architecture=tree.architecture, size_kib=size // 1024,
        qemu={"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}[tree.architecture],
    )  # fmt: skip
    write(stage / "DEBIAN" / "control", control)
    for script in ("postinst", "prerm", "postrm"):
        common = (files / f"common.{script}").read_text()
        own = files / f"{package}.{script}"
        write(
            stage / "DEBIAN" / script,
            common.replace("#OWN#", own.read_text() if own.is_file() else ""),
            0o755,
        )
    write(stage / "DEBIAN" / "triggers", "interest-noawait /usr/bin/python3\n")
    if (stage / "etc").exists():
        names = [
            f"/{path.relative_to(stage)}" for path in sorted((stage / "etc").rglob("*")) if path.is_file()
        ]
        write(stage / "DEBIAN" / "conffiles", "\n".join(names) + "\n")
    settle(stage, int(os.environ["SOURCE_DATE_EPOCH"]))
    archive = target / f"{package}_{tree.version}_{tree.architecture}.deb"
    # One thread: how the compressor splits its work shows in the bytes. dpkg of Debian 12 and Ubuntu 24.04 reads zstd.
    command = [
        "dpkg-deb",
        "--build",
        "--root-owner-group",
        "--threads-max=1",
        "-Zzstd",
        "-z12",
        str(stage),
        str(archive),
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)


def settle(stage: Path, time: int) -> None:
    """Times and modes that do not tell on which machine the package was made."""
    for path in [*sorted(stage.rglob("*"), reverse=True), stage]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (time, time), follow_symlinks=False)
