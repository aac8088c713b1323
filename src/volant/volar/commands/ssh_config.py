# SPDX-License-Identifier: Apache-2.0
"""volar vms ssh-config: VMs for every program that reads OpenSSH's configuration."""

from __future__ import annotations

import shlex
import sys

import click

from volant.volar.names import VM
from volant.volar.ssh import find_client_key
from volant.volar.target import make_client


@click.command("ssh-config")
@click.argument("names", nargs=-1, type=VM)
@click.option("-u", "--user", default="root", show_default=True, help="Log in as this user of the image.")
@click.pass_context
def ssh_config(context: click.Context, names: tuple[str, ...], user: str) -> None:
    """Print OpenSSH configuration for VMs, those named or all: for ssh, rsync, sftp, Ansible, editors.

    \b
    volar ssh-config > ~/.ssh/volant.config      and in ~/.ssh/config: Include volant.config
    rsync -e "ssh -F <(volar ssh-config)" -a site/ my-nginx:/var/www/html/
    """
    client = make_client(context)
    key = find_client_key()
    for name in [client.get_vm(name)["name"] for name in names] or [vm["name"] for vm in client.list_vms()]:
        program = [sys.executable, "-m", "volant.volar.ssh_proxy"]
        connect = shlex.join([*program, "--authorize", client.address, name]).replace("%", "%%")
        tell_key = shlex.join([*program, "--host-key", client.address, name]).replace("%", "%%")
        click.echo(
            f"Host {name}\n"
            f"    User {user}\n"
            f"    ProxyCommand {connect}\n"
            f"    KnownHostsCommand {tell_key}\n"
            f"    UserKnownHostsFile none\n"
            f"    GlobalKnownHostsFile none\n"
            f"    StrictHostKeyChecking yes\n"
            f"    HostKeyAlias {name}\n"
            f"    IdentityFile {key}\n"
            f"    IdentitiesOnly yes\n"
        )
