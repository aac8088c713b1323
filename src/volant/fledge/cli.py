# SPDX-License-Identifier: Apache-2.0
"""The command line of fledge: parse, call, turn an error into its exit code. Modules are imported when needed."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from volant.errors import Interrupted, InvalidInput, StorageFull, UsageError, VolantError
from volant.sizes import read_size, show_size

if TYPE_CHECKING:
    from volant.fledge.pipeline import BuiltPlugin
    from volant.signatures.keys import PrivateKey

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
PLATFORM = click.Choice(["linux/amd64", "linux/arm64"])


class Group(click.Group):
    """Commands in the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(package_name="volant", prog_name="fledge", message="%(prog)s %(version)s")
def fledge() -> None:
    """Turn a Dockerfile or a container image into a bootable plugin, a plugin.tar.gz.

    \b
    fledge init                                  a skeleton to begin with
    fledge build                                 what fledge.toml in this folder says
    fledge build --docker-archive image.tar      an image that somebody saved
    volar plugins install ./my-app.tar.gz        and run it
    """


@fledge.command(short_help="Make a plugin from fledge.toml, a Dockerfile or an image.")
@click.argument("dockerfile", required=False, metavar="[DOCKERFILE|FOLDER]")
@click.option("-c", "--config", metavar="FILE", help="Recipe to read instead of ./fledge.toml.")
@click.option("--docker-archive", metavar="FILE", help="From `docker save` or `podman save`.")
@click.option("--oci-archive", metavar="FILE", help="From an OCI image layout in a tar.")
@click.option("--oci-layout", metavar="DIR", help="From an OCI image layout in a folder.")
@click.option("--image", metavar="REF", help="From a registry, docker-daemon: or containers-storage:.")
@click.option("-t", "--tag", metavar="NAME[:VERSION]", help="Name the plugin, whatever the recipe says.")
@click.option("-o", "--output", metavar="FILE", help="Plugin to write.  [default: NAME.tar.gz]")
@click.option(
    "--builder", type=click.Choice(["auto", "docker", "podman", "buildah"]), help="Who builds the image."
)
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="ARG of the Dockerfile; NAME alone takes the environment's.",
)
@click.option("--target", metavar="STAGE", help="Stage of the Dockerfile to stop at.")
@click.option("--platform", type=PLATFORM, help="Platform of the image.")
@click.option("--format", "disk_format", type=click.Choice(["qcow2", "raw"]), help="Form of the disk.")
@click.option(
    "--progress", type=click.Choice(["auto", "plain", "json"]), default="auto", help="How to show progress."
)
@click.option("--push", metavar="REF", help="Send the plugin to a registry, too.")
@click.option(
    "--sign-by",
    metavar="KEY",
    help="Sign it, as cosign does, with this private key.",
)
@click.option("--no-cache", is_flag=True, help="Convert again even if nothing has changed.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what was measured.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
def build(
    dockerfile: str | None, progress: Any, disk_format: Any, build_args: tuple[str, ...], push: str | None,
    sign_by: str | None, no_cache: bool, verbose: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Make a plugin.

    By default ./fledge.toml is the recipe; without one, ./Dockerfile is built and the plugin
    named after the folder. A source given here wins over the recipe's.

    \b
    fledge build
    fledge build -c web.toml -o web.tar.gz
    fledge build ./Dockerfile --build-arg VERSION=1.2
    fledge build --docker-archive image.tar --output plugin.tar.gz
    fledge build --image docker.io/library/nginx:1.27
    fledge build --push registry.example.com/team/nginx:1.27 --sign-by cosign.key
    """
    import time
    from pathlib import Path

    from volant.fledge.order import CommandLine, make_order
    from volant.progress import make_monitor

    if push is not None:
        from volant.registries.references import check_reference

        check_reference(push)
    key = None
    if sign_by is not None:
        from volant.signing_key import open_signing_key

        key = open_signing_key(Path(sign_by))
    began = time.monotonic()
    line = CommandLine(
        place=dockerfile,
        build_args=_parse_build_args(build_args),
        format=disk_format,
        use_cache=not no_cache,
        **options,
    )
    with make_monitor(progress, quiet=quiet) as monitor:
        order = make_order(line)
        from volant.fledge.build import build_plugin

        built = build_plugin(order, monitor)
    _publish(built, key, push, quiet=quiet)
    if progress == "json" and not quiet:
        import json

        facts = {"path": str(built.path), "name": built.name, "version": built.version}
        sizes = {"size_bytes": built.size_bytes, "from_cache": built.from_cache}
        click.echo(json.dumps({"time": time.time(), "event": "built", **facts, **sizes}), err=True)
    elif not quiet:
        size = show_size(built.size_bytes)
        click.echo(
            f"{built.path}: {built.name} {built.version}, {size}, {time.monotonic() - began:.1f} s", err=True
        )
        if sys.stderr.isatty() and line.output is None:
            place = built.path if built.path.is_absolute() else f"./{built.path}"
            click.echo(f"next: volar plugins install {place}", err=True)
    if verbose:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        click.echo(f"peak memory of fledge: {peak:.0f} MiB", err=True)


def _publish(built: BuiltPlugin, key: PrivateKey | None, push: str | None, *, quiet: bool) -> None:
    if key is not None:
        from volant.fledge.signing import sign_file

        signature = sign_file(built.path, key)
        if not quiet:
            click.echo(f"signed {built.path} ({signature})", err=True)
    if push is not None:
        from volant.plugin_registry import push_plugin

        with built.path.open("rb") as archive:
            digest = push_plugin(archive, push, name=built.name, version=built.version, sign_by=key)
        if not quiet:
            click.echo(f"pushed {push} ({digest})", err=True)


def _parse_build_args(pairs: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise UsageError("cannot use --build-arg: no name in it", resolution="--build-arg NAME=VALUE")
        if not equals:
            if name not in os.environ:
                raise UsageError(
                    f"cannot use --build-arg {name}: no value is given and the environment has none",
                    resolution=f"--build-arg {name}=VALUE",
                )
            value = os.environ[name]
        parsed[name] = value
    return parsed


@fledge.command(short_help="Check recipe, Dockerfile and kestrel config of a folder.")
@click.argument("folder", default=".", type=click.Path(file_okay=False))
@click.option("-c", "--config", metavar="FILE", help="Recipe to check instead of fledge.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a problem.")
def validate(folder: str, config: str | None, as_json: bool) -> None:
    """Report every problem in this folder's recipe, Dockerfile and kestrel config.

    Every problem comes with its file and line and what to do about it. Exits 3 if there is an error;
    warnings alone exit 0.
    """
    import json
    from pathlib import Path

    from volant.fledge.validate import validate_folder

    problems = validate_folder(Path(folder), config)
    errors = sum(problem.severity == "error" for problem in problems)
    for problem in problems:
        click.echo(json.dumps(problem.as_json()) if as_json else str(problem))
    if not problems and not as_json:
        click.echo("no problems found")
    if errors:
        sys.exit(3)


@fledge.command(short_help="Show what a plugin holds.")
@click.argument("plugin", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@click.option("--top", default=10, show_default=True, help="How many of the biggest paths to show.")
def inspect(plugin: str, as_json: bool, top: int) -> None:
    """Show a plugin's manifest, its disk, and the biggest paths on it."""
    from pathlib import Path

    from volant.fledge.inspect import inspect_plugin

    click.echo(inspect_plugin(Path(plugin), top=top, as_json=as_json), nl=False)


@fledge.command(short_help="Write a working skeleton.")
@click.argument("folder", default=".", type=click.Path(file_okay=False))
@click.option("--name", help="Name of the plugin.  [default: the folder's]")
@click.option("--type", "kind", type=click.Choice(["oci", "initramfs"]), default="oci", show_default=True)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def init(folder: str, name: str | None, kind: Any, force: bool) -> None:
    """Write a fledge.toml, a Dockerfile and a kestrel config that build and run as they are."""
    from pathlib import Path

    from volant.fledge.init import make_skeleton

    for path in make_skeleton(Path(folder), name=name, kind=kind, force=force):
        click.echo(f"wrote {path}")


@fledge.command(short_help="Write the guest agent's binary.")
@click.option("-o", "--output", default="kestrel", show_default=True, metavar="FILE")
@click.option("--arch", type=click.Choice(["amd64", "arm64"]), help="[default: this machine's]")
def agent(output: str, arch: Any) -> None:
    """Write the agent binary, for Dockerfiles that install it themselves."""
    import platform

    from volant.contract.agents import find_agent
    from volant.output_file import find_output, read_output
    from volant.whole_file import write_whole_file

    source = find_agent(arch or ("arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"))
    write_whole_file(find_output(read_output(output), [source]), source.read_bytes(), mode=0o755)
    click.echo(f"wrote {output} ({show_size(source.stat().st_size)})", err=True)


@fledge.command(short_help="Show which image builder would be used.")
@click.argument("choice", default="auto", type=click.Choice(["auto", "docker", "podman", "buildah"]))
def builder(choice: Any) -> None:
    """Print the builder that runs a step on this machine: docker, podman or buildah, in this order."""
    from volant.fledge.builders import find_builder
    from volant.progress import make_monitor

    with make_monitor("plain") as monitor:
        found = find_builder(choice, monitor)
    click.echo(found.name)
    if (line := found.describe()) != found.name:
        click.echo(line, err=True)


@fledge.command(short_help="Show what this machine needs to build images.")
@click.option("-o", "--output", "output_format", type=click.Choice(["table", "json"]), default="table")
def doctor(output_format: str) -> None:
    """Show whether and how this machine builds images, and how to fix what is missing.

    Builders are tried with a tiny image. Exits 1 where Dockerfiles cannot be built.
    """
    from volant.contract.finding import format_findings
    from volant.fledge.doctor import examine
    from volant.progress import make_monitor

    with make_monitor("plain") as monitor:
        findings = examine(monitor)
    click.echo(format_findings(findings, output_format))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(1)


@fledge.group(short_help="Manage the cache of built plugins.")
def cache() -> None:
    """Plugins that were built before are kept, by what they were made from, so that nothing is converted twice."""


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an entry.")
def cache_list(as_json: bool) -> None:
    """Show what is kept."""
    import json
    import time

    from volant.fledge.cache import PluginCache
    from volant.fledge.known_digests import find_cache_folder

    entries = PluginCache().entries()
    for entry in entries:
        if as_json:
            record = {
                "key": entry.key,
                "plugin": entry.plugin,
                "size_bytes": entry.size_bytes,
                "used_at": entry.used_at,
            }
            click.echo(json.dumps(record))
        else:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
            click.echo(f"{entry.key[:12]}  {show_size(entry.size_bytes):>9}  {used}  {entry.plugin}")
    if not entries and not as_json:
        click.echo(f"nothing is kept in {find_cache_folder()}")


@cache.command("prune")
@click.option(
    "--keep", default="0", metavar="SIZE", help="Keep this much of the latest, e.g. 2G.  [default: nothing]"
)
def cache_prune(keep: str) -> None:
    """Remove what is kept."""
    from volant.fledge.cache import PluginCache

    try:
        keep_bytes = read_size(keep)
    except InvalidInput as error:
        raise UsageError(f"cannot keep {keep!r}: not a size", resolution="e.g. --keep 2G") from error
    dropped, freed = PluginCache().prune(keep_bytes=keep_bytes)
    click.echo(f"removed {dropped} plugin{'' if dropped == 1 else 's'}, {show_size(freed)}")


@fledge.command(short_help="Print shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print completion for a shell.

    \b
    fledge completion bash > /etc/bash_completion.d/fledge
    fledge completion zsh > "${fpath[1]}/_fledge"
    fledge completion fish > ~/.config/fish/completions/fledge.fish
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is not None:
        click.echo(completer(fledge, {}, "fledge", "_FLEDGE_COMPLETE").source())


class _Signalled(KeyboardInterrupt):
    """A signal asks to stop; `number` says which."""

    def __init__(self, number: int) -> None:
        self.number = number


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Once is enough: what is cleaned up now must not be torn out of its work.
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise _Signalled(number)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    for number in _SIGNALS:
        # nohup and shells' background jobs ignore some of them, and mean it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    # What fledge makes are trees without cycles: the collector would only walk through them, again and again.
    gc.disable()
    # Entry points of pydantic's plugins are looked for in every installed package otherwise.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        code = fledge.main(arguments, prog_name="fledge", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        # click turns a KeyboardInterrupt into its own.
        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__ or error.__context__
        signalled = cause.number if isinstance(cause, _Signalled) else signal.SIGINT
        click.echo(f"error: {Interrupted('interrupted: nothing was left behind')}", err=True)
        sys.exit(128 + signalled)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except VolantError as error:
        _fail(error)
    except OSError as error:
        _fail(_explain(error))


def _explain(error: OSError) -> VolantError:
    import errno

    place = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"cannot write: no space left on the disk{place}", resolution="free some space, or set TMPDIR"
        )
    return VolantError(f"cannot go on{place}: {error.strerror or error}")


def _fail(error: VolantError) -> None:
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def run() -> None:
    """`main` in a process of its own, which then ends at once: Python would take its objects apart, for 30 ms."""
    try:
        main()
    except SystemExit as end:
        with suppress(OSError):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            if isinstance(end.code, int):
                os._exit(end.code)
        raise


if __name__ == "__main__":
    run()
