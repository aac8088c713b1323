# SPDX-License-Identifier: Apache-2.0
"""The node agent as a program: `volantd serve --kubernetes KUBECONFIG` keeps one beside the daemon."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import click

from volant.contract.paths import find_state_dir

LOOK_SECONDS, RETRY_SECONDS = 3600.0, 60.0
# Calls of the daemon that wait, such as those that stop VMs, must not keep probes waiting. They are made as needed.
MOST_THREADS = 256
log = logging.getLogger(__name__)


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--node", help="Name of the node.  [default: the kubeconfig's, else the host's]")
@click.option(
    "--address", help="This host's address, as the cluster reaches it.  [default: towards the cluster]"
)
@click.option(
    "--port", type=int, default=10250, show_default=True, help="Where the cluster asks for logs and commands."
)
@click.option("--daemon", "daemon_address", help="The daemon's socket.  [default: this user's own]")
@click.option("--pods", type=int, default=110, show_default=True, help="The most pods that run here.")
@click.option("--with-parent", is_flag=True, help="End when standard input does.")
def main(
    kubeconfig: Path, node: str | None, address: str | None, port: int, daemon_address: str | None, pods: int,
    with_parent: bool,
) -> None:  # fmt: skip
    """Register this host with a cluster and run its pods as VMs, until SIGTERM; VMs run on without it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("httpx", "httpx2", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    address = address or find_address(kubeconfig)
    asyncio.run(
        _run(kubeconfig, node or find_name(kubeconfig), address, port, daemon_address, pods, with_parent)
    )


def find_name(kubeconfig: Path) -> str:
    """The node that the kubeconfig's certificate is of, which no other node's pods may be asked for; else this host."""
    from lightkube import KubeConfig

    from volant.kubernetes.certificate import read_node_name

    config = KubeConfig.from_file(kubeconfig).get()
    text = config.user.client_cert_data if config is not None and config.user is not None else None
    return (read_node_name(base64.b64decode(text)) if text else "") or socket.gethostname().lower()


def find_address(kubeconfig: Path) -> str:
    """The address that this host speaks to the cluster from. Nothing is sent."""
    from lightkube import KubeConfig

    config = KubeConfig.from_file(kubeconfig).get()
    server = urlsplit(config.cluster.server if config is not None else "")
    family, kind, protocol, _, place = socket.getaddrinfo(
        server.hostname, server.port or 443, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


async def _run(
    kubeconfig: Path,
    node: str,
    address: str,
    port: int,
    daemon_address: str | None,
    pods: int,
    with_parent: bool,
) -> None:
    from volant.client import AsyncClient
    from volant.kubernetes.access import Access
    from volant.kubernetes.agent import NodeAgent
    from volant.kubernetes.certificate import ServingCertificate
    from volant.kubernetes.cluster import Cluster, read_ca
    from volant.kubernetes.node import read_host
    from volant.kubernetes.node_server import Listener, NodeServer

    state = find_state_dir()
    folder = state / "kubernetes"
    cluster = Cluster(kubeconfig)
    client = AsyncClient(daemon_address)
    agent = NodeAgent(cluster, client, read_host(node, address, port, state, pods=pods))
    certificate = ServingCertificate(folder, node, address)
    if not certificate.is_good():
        certificate.sign_for_now()
    server = NodeServer(client, node, agent.find_worker, agent.list_workers)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="daemon"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), ended.set)

    ca = folder / "ca.crt"
    ca.write_bytes(read_ca(kubeconfig))
    listener = Listener(
        server.make_application(),
        Access(cluster, node),
        address,
        port,
        certificate,
        ca,
    )

    async def renew() -> None:
        """Serve with what there is until the cluster has signed another."""
        while True:
            try:
                if not certificate.is_good():
                    await certificate.request(cluster)
                    listener.take_certificate()
                await asyncio.sleep(LOOK_SECONDS)
            except Exception as error:
                # The cluster cannot be reached, or nobody approved it in time and it was swept away.
                log.warning("cannot get a certificate to serve with: %s; asking again", error)
                await asyncio.sleep(RETRY_SECONDS)

    tasks = {
        asyncio.create_task(agent.run()),
        asyncio.create_task(listener.serve()),
        asyncio.create_task(renew()),
    }
    ending = asyncio.create_task(ended.wait())
    done, _ = await asyncio.wait({*tasks, ending}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, ending):
        task.cancel()
    await asyncio.gather(*tasks, ending, return_exceptions=True)
    for task in done - {ending}:
        task.result()


if __name__ == "__main__":
    main()
