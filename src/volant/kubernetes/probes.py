# SPDX-License-Identifier: Apache-2.0
"""One attempt of a pod's probe, as the kubelet makes it: empty where the workload answered as it should, else why not.

HTTP and TCP go to the guest's port through the daemon, so that a port need not be published to be probed.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Awaitable, Callable

from lightkube.models.core_v1 import Container, HTTPGetAction, Probe

from volant.client import AsyncClient, Client
from volant.digits import is_whole_number
from volant.errors import VolantError
from volant.kubernetes.references import Refused

DEFAULT_TIMEOUT_SECONDS = 1
MOST_TIMEOUT_SECONDS = 3600
MOST_SAID = 200
# Told to servers as the kubelet does, so that their logs can leave probes out.
USER_AGENT = "kube-probe/1.36"
Attempt = Callable[[Probe], Awaitable[str]]


def check_probe(container: Container, probe: Probe) -> None:
    """Raises Refused for what is not probed here."""
    if probe.grpc is not None:
        raise Refused("UnsupportedProbe", "probes by gRPC are not made: give one by HTTP, TCP or a program")
    action = probe.httpGet or probe.tcpSocket
    if action is not None and action.host:
        raise Refused("UnsupportedProbe", f"a probe asks the pod itself, and not the host {action.host}")
    if action is not None:
        find_port(container, action.port)


def find_port(container: Container, port: int | str) -> int:
    """A port by its number or by a name that the container gives it. Raises Refused."""
    if isinstance(port, int) or is_whole_number(port):
        return int(port)
    for one in container.ports or []:
        if one.name == port:
            return one.containerPort
    raise Refused("UnsupportedProbe", f"a probe names the port {port}, which the container has not")


async def attempt(client: AsyncClient, vm: str, container: Container, probe: Probe) -> str:
    timeout_seconds = float(min(probe.timeoutSeconds or DEFAULT_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS))
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _ask(client, vm, container, probe, timeout_seconds)
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except (VolantError, OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__


async def _ask(
    client: AsyncClient, vm: str, container: Container, probe: Probe, timeout_seconds: float
) -> str:
    if probe.exec is not None:
        done = await client.exec(vm, probe.exec.command or [], timeout_seconds=timeout_seconds)
        said = f"{done['stdout']}{done['stderr']}".strip()[:MOST_SAID]
        return f"exit status {done['exit_code']}: {said}" if done["exit_code"] else ""
    if probe.httpGet is not None:
        port = find_port(container, probe.httpGet.port)
        return await asyncio.to_thread(_get_page, client.client, vm, port, probe.httpGet, timeout_seconds)
    if probe.tcpSocket is not None:
        async with client.open_port(vm, find_port(container, probe.tcpSocket.port)):
            return ""
    return ""


def _get_page(client: Client, vm: str, port: int, action: HTTPGetAction, timeout_seconds: float) -> str:
    """A status from 200 to 399 is good, and a certificate is not looked at: so says Kubernetes."""
    headers = {one.name: one.value for one in action.httpHeaders or []}
    given = {name.lower() for name in headers}
    if "user-agent" not in given:
        headers["User-Agent"] = USER_AGENT
    path = action.path or "/"
    with client.open_port(vm, port) as connected:
        connected.settimeout(timeout_seconds)
        connection = http.client.HTTPConnection("localhost", port)
        connection.sock = _encrypt(connected) if action.scheme == "HTTPS" else connected
        try:
            connection.putrequest(
                "GET", path if path.startswith("/") else f"/{path}", skip_host="host" in given,
                skip_accept_encoding=True,
            )  # fmt: skip
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            status = connection.getresponse().status
        finally:
            connection.close()
    return "" if 200 <= status < 400 else f"HTTP status {status}"


def _encrypt(connected: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connected)
