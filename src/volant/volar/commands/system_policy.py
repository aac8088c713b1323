# SPDX-License-Identifier: Apache-2.0
"""volar system policy."""

from __future__ import annotations

from pathlib import Path

import click

from volant.errors import NotFound, UsageError
from volant.volar.groups import Commands
from volant.volar.output import Format, output_option, show_rows
from volant.volar.target import make_client

COLUMNS = {
    "FOR": lambda rule: rule["scope"],
    "VERDICT": lambda rule: rule["verdict"],
    "KEYS": lambda rule: len(rule["keys"]) or "",
}


@click.group(
    cls=Commands, aliases={"ls": "show", "list": "show", "rm": "remove", "delete": "remove", "add": "set"}
)
def policy() -> None:
    """Choose which plugins the daemon accepts: by where they come from, and who signed them.

    Without rules it accepts everything. With rules, it refuses what no rule covers.
    """


@policy.command()
@output_option
@click.pass_context
def show(context: click.Context, output_format: Format) -> None:
    """Show the rules."""
    rules = [{**rule, "name": rule["scope"]} for rule in make_client(context).get("/system/policy")]
    show_rows(rules, output_format, kind="rule", columns=COLUMNS)


@policy.command("set")
@click.argument("scope", metavar="FROM")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Accept what this public key's owner signed (repeatable: one is enough).",
)  # fmt: skip
@click.option("--allow", is_flag=True, help="Accept everything, signed or not.")
@click.option("--refuse", is_flag=True, help="Take nothing.")
@click.pass_context
def set_rule(context: click.Context, scope: str, keys: tuple[Path, ...], allow: bool, refuse: bool) -> None:
    """Set the rule for plugins from a repository, from everything below a path, from every registry, or from none.

    \b
    volar system policy set registry.example.com/team/web --key cosign.pub
    volar system policy set 'registry.example.com/team/*' --key alice.pub --key bob.pub
    volar system policy set '*' --refuse
    volar system policy set local --allow     files, and http addresses

    The narrowest rule counts. Plugins that are installed stay.
    """
    if bool(keys) + allow + refuse != 1:
        raise UsageError(
            f"cannot set a rule for {scope}: give keys, or one of --allow and --refuse",
            resolution=f"volar system policy set {scope} --key cosign.pub",
        )
    verdict = "signed" if keys else "allow" if allow else "refuse"
    body = {"scope": scope, "verdict": verdict, "keys": [_read_key(path) for path in keys]}
    make_client(context).call("PUT", "/system/policy", body=body)
    click.echo(f"{scope}: {verdict}")


def _read_key(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        raise NotFound(f"cannot read the key {path}: {error.strerror}") from error


@policy.command()
@click.argument("scope", metavar="FROM")
@click.pass_context
def remove(context: click.Context, scope: str) -> None:
    """Remove a rule. Without any rule, everything is accepted again."""
    make_client(context).call("DELETE", "/system/policy", query={"scope": scope})
    click.echo(f"removed the rule for {scope}")
