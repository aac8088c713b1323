# SPDX-License-Identifier: Apache-2.0
"""volar cluster: this host as a node of a Kubernetes cluster."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from volant.contract.paths import find_node_kubeconfig
from volant.errors import NotFound, ToolMissing, Unreachable
from volant.volar.groups import Commands

NODE = click.option("--node", help="Name of the node.  [default: this host's]")
KUBECONFIG = click.option(
    "--kubeconfig", type=click.Path(path_type=Path, exists=True), envvar="KUBECONFIG",
    default=Path("~/.kube/config").expanduser, help="An administrator's.  [default: KUBECONFIG, ~/.kube/config]",
)  # fmt: skip


@click.group(
    cls=Commands, aliases={"show": "status", "get": "status"}, answers={"drain": "kubectl drain NODE"}
)
def cluster() -> None:
    """Make this host a node of a Kubernetes cluster, whose pods are VMs here."""


@cluster.command()
@KUBECONFIG
@NODE
@click.option(
    "--timeout", type=float, default=120.0, show_default=True, help="Seconds until the node is ready."
)
def join(kubeconfig: Path, node: str | None, timeout: float) -> None:
    """Become a node. The administrator's rights are used once; the node gets some of its own.

    \b
    volar cluster join
    volar cluster join --kubeconfig admin.conf --node rack-7
    """
    with _explained():
        from volant.kubernetes.joining import join as join_cluster

        join_cluster(
            kubeconfig, node or _name_host(), find_node_kubeconfig(), wait_seconds=timeout, say=click.echo
        )
    click.echo("pods with runtimeClassName: volant run here")


@cluster.command()
@KUBECONFIG
@NODE
@click.option(
    "-f", "--force", is_flag=True, help="Leave even if pods run here: the cluster starts them elsewhere."
)
def leave(kubeconfig: Path, node: str | None, force: bool) -> None:
    """Stop being a node.

    \b
    kubectl drain rack-7 --ignore-daemonsets && volar cluster leave
    """
    with _explained():
        from volant.kubernetes.joining import leave as leave_cluster

        leave_cluster(kubeconfig, node or _name_host(), find_node_kubeconfig(), force=force, say=click.echo)


@cluster.command()
def status() -> None:
    """Show which cluster this host is a node of."""
    path = find_node_kubeconfig()
    try:
        document = json.loads(path.read_bytes())
        server = document["clusters"][0]["cluster"]["server"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise NotFound("this host is not a node of a cluster", resolution="volar cluster join") from error
    click.echo(f"node of {server}, by {path}")


def _name_host() -> str:
    return socket.gethostname().lower()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        from volant.installation import name_install_command

        raise ToolMissing(
            "cannot talk to a cluster: the Kubernetes library is not installed",
            resolution=name_install_command("kubernetes"),
        ) from error
    except Exception as error:
        if type(error).__module__.startswith(("lightkube", "httpx")):
            raise Unreachable(f"cannot reach the cluster, or it refused: {error}") from error
        raise
