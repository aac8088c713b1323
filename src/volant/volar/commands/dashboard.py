# SPDX-License-Identifier: Apache-2.0
"""volar dashboard: a link that opens the daemon's page, and a browser that follows it."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant.contract.paths import find_runtime_dir, make_private_folder
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import DashboardLink

SIGNPOST = """\
<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={link}"><title>Volant</title><a href="{link}">Open the dashboard</a>
"""


@click.command()
@click.option("--no-open", is_flag=True, help="Print the link and open no browser.")
@click.pass_context
def dashboard(context: click.Context, no_open: bool) -> None:
    """Open the daemon's page in a browser, through a link that works once and for one minute.

    \b
    volar dashboard
    volar dashboard --no-open       from another machine: ssh -L PORT:127.0.0.1:PORT HOST, then the link there
    """
    link: DashboardLink = make_client(context).post("/dashboard/links")
    click.echo(link["url"])
    if not no_open and has_display():
        import webbrowser

        webbrowser.open(write_signpost(link["url"]).as_uri())


def has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def write_signpost(link: str) -> Path:
    """A page of this user's own that leads on: what is on a command line, every user of this host can read."""
    folder = find_runtime_dir()
    make_private_folder(folder)
    path = folder / "dashboard.html"
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        stream.write(SIGNPOST.format(link=html.escape(link)))
    return path
