# SPDX-License-Identifier: Apache-2.0
"""volar completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    source <(volar completion bash)
    volar completion fish > ~/.config/fish/completions/volar.fish
    """
    root = context.find_root().command
    script_class = get_completion_class(shell)
    assert script_class is not None
    click.echo(script_class(root, {}, "volar", "_VOLAR_COMPLETE").source())
