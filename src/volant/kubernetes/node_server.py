# SPDX-License-Identifier: Apache-2.0
"""The HTTPS server that the API server and metrics-server ask, on port 10250 as a kubelet's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import h11
import uvicorn
from lightkube.resources.core_v1 import Pod
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol

from volant.client import AsyncClient
from volant.contract.api_types import Vm
from volant.errors import NotFound, VolantError
from volant.kubernetes.access import Access
from volant.kubernetes.certificate import ServingCertificate
from volant.kubernetes.exec_channels import attach, run_command, send_lines
from volant.kubernetes.node_stats import PodUse, make_resource_metrics, make_summary, measure, read_host_use
from volant.kubernetes.pod_logs import LogOptions, read_lines, read_options
from volant.kubernetes.port_forward import forward_ports
from volant.kubernetes.references import get_container
from volant.kubernetes.runs import find_previous_start
from volant.kubernetes.stream_protocols import keep_offer
from volant.kubernetes.worker import PodWorker

# Tells a pod's worker by namespace and name; None where the node has no such pod.
FindWorker = Callable[[str, str], PodWorker | None]
ListWorkers = Callable[[], list[PodWorker]]
FIRST_REQUEST_SECONDS = 30.0


class _WithCertificate(H11Protocol):
    """Tells requests which certificate their connection showed."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, "certificate": tls.getpeercert() if tls is not None else None}
        # Strangers who ask for nothing do not use up this program's descriptors, with which it renews its Lease.
        self._silence = self.loop.call_later(FIRST_REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None:
            self._silence.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._silence.cancel()
        # What is spoken goes with the path. The name of port-forward's (SPDY/3.1+portforward.k8s.io) is no token of
        # HTTP's, for which the library would turn everybody away who asks for it.
        self.headers = keep_offer(self.headers)
        super().handle_websocket_upgrade(event)


class _Gate:
    """Lets in who the cluster says may come in."""

    def __init__(self, application: ASGIApp, access: Access) -> None:
        self._application = application
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] == "/healthz":
            await self._application(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        method = scope["method"] if scope["type"] == "http" else "websocket"
        try:
            user = await self._access.find_user(
                scope.get("state", {}).get("certificate"), connection.headers.get("authorization", "")
            )
            code = (
                401 if user is None else 200 if await self._access.may(user, method, scope["path"]) else 403
            )
        except Exception:
            code = 503
        if code == 200:
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse({401: "Unauthorized", 403: "Forbidden"}.get(code, "Unavailable"), code)(
                scope, receive, send
            )
        else:
            await WebSocket(scope, receive, send).close(4000 + code)


class NodeServer:
    """The paths of a kubelet that a cluster asks for."""

    def __init__(
        self, client: AsyncClient, node: str, find_worker: FindWorker, list_workers: ListWorkers
    ) -> None:
        self._client = client
        self._node = node
        self._find_worker = find_worker
        self._list_workers = list_workers

    def make_application(self) -> Starlette:
        pod = "/{namespace}/{pod}"
        return Starlette(
            routes=[
                Route("/healthz", self._tell_health),
                Route("/pods", self._list_pods),
                Route("/runningpods/", self._list_pods),
                Route(f"/containerLogs{pod}/{{container}}", _told(self._tell_logs)),
                Route("/stats/summary", _told(self._tell_summary)),
                Route("/metrics/resource", _told(self._tell_resources)),
                WebSocketRoute(f"/exec{pod}/{{container}}", self._run),
                WebSocketRoute(f"/exec{pod}/{{uid}}/{{container}}", self._run),
                WebSocketRoute(f"/portForward{pod}", self._forward),
                WebSocketRoute(f"/portForward{pod}/{{uid}}", self._forward),
                WebSocketRoute(f"/attach{pod}/{{container}}", self._attach),
                WebSocketRoute(f"/attach{pod}/{{uid}}/{{container}}", self._attach),
            ]
        )

    def _get_worker(self, connection: HTTPConnection) -> PodWorker:
        namespace, name = connection.path_params["namespace"], connection.path_params["pod"]
        worker = self._find_worker(namespace, name)
        if worker is None:
            raise NotFound(f"pod {namespace}/{name} is not on this node")
        return worker

    async def _find(self, connection: HTTPConnection) -> Vm:
        return await self._client.get_vm(self._get_worker(connection).name)

    async def _find_or_deny(self, websocket: WebSocket) -> Vm | None:
        try:
            return await self._find(websocket)
        except VolantError as error:
            await websocket.send_denial_response(PlainTextResponse(f"{error}\n", 404))
            return None

    async def _tell_health(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _list_pods(self, request: Request) -> Response:
        pods: list[Pod] = [worker.pod for worker in self._list_workers()]
        items = [json.loads(json.dumps(pod.to_dict(), default=str)) for pod in pods]
        return JSONResponse({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _tell_logs(self, request: Request) -> Response:
        worker, options = self._get_worker(request), read_options(dict(request.query_params))
        vm = await self._client.get_vm(worker.name)
        lines = read_lines(self._client, vm, options, find_previous_start(worker.pod))
        return StreamingResponse(lines, media_type="text/plain")

    async def _run(self, websocket: WebSocket) -> None:
        query = websocket.query_params
        if (vm := await self._find_or_deny(websocket)) is None:
            return
        await run_command(
            websocket, self._client, vm["name"], query.getlist("command"),
            is_terminal=query.get("tty") in ("1", "true"), wants_stdin=query.get("input") in ("1", "true"),
        )  # fmt: skip

    async def _attach(self, websocket: WebSocket) -> None:
        if (vm := await self._find_or_deny(websocket)) is None:
            return
        container = get_container(self._get_worker(websocket).pod)
        if container.stdin or container.tty:
            await attach(websocket, self._client, vm["name"])
            return
        lines = read_lines(self._client, vm, LogOptions(follow=True, tail=0))
        await send_lines(websocket, lines, wants_stdin=websocket.query_params.get("input") in ("1", "true"))

    async def _forward(self, websocket: WebSocket) -> None:
        if (vm := await self._find_or_deny(websocket)) is not None:
            await forward_ports(websocket, self._client, vm["name"])

    async def _measure(self) -> list[PodUse]:
        pods = {}
        for worker in self._list_workers():
            metadata = worker.pod.metadata
            assert metadata is not None
            container = get_container(worker.pod).name
            pods[worker.name] = PodUse(
                metadata.namespace or "", metadata.name or "", metadata.uid or "", container
            )
        return await measure(self._client, self._node, pods)

    async def _tell_summary(self, request: Request) -> Response:
        return JSONResponse(make_summary(self._node, await self._measure(), *read_host_use()))

    async def _tell_resources(self, request: Request) -> Response:
        return Response(
            make_resource_metrics(await self._measure(), *read_host_use()), media_type="text/plain"
        )


def _told(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors as a kubelet's clients expect them: a line of text."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except NotFound as error:
            return PlainTextResponse(f"{error}\n", 404)
        except (VolantError, ValueError, OSError) as error:
            return PlainTextResponse(f"{error}\n", 500)

    return answer


class Listener:
    """Serves until it is cancelled; another certificate counts for the connections that come."""

    def __init__(
        self,
        application: Starlette,
        access: Access,
        address: str,
        port: int,
        certificate: ServingCertificate,
        ca: Path,
    ) -> None:
        self._certificate = certificate
        self._config = uvicorn.Config(
            _Gate(application, access), host=address, port=port, http=_WithCertificate, ws="websockets-sansio",
            ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key, ssl_ca_certs=str(ca),
            ssl_cert_reqs=ssl.CERT_OPTIONAL, log_level="warning", lifespan="off", access_log=False,
        )  # fmt: skip
        self._config.load()

    def take_certificate(self) -> None:
        assert self._config.ssl is not None
        self._config.ssl.load_cert_chain(self._certificate.certificate, self._certificate.key)

    async def serve(self) -> None:
        server = uvicorn.Server(self._config)
        with contextlib.suppress(asyncio.CancelledError):
            # Its own signal handlers are left out: the program's are there.
            await server._serve()
