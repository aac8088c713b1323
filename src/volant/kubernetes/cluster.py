# SPDX-License-Identifier: Apache-2.0
"""The cluster as this node sees it: its pods by list and watch, and what they refer to."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.core.exceptions import ApiError
from lightkube.models.authentication_v1 import BoundObjectReference, TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import (
    ConfigMap,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Secret,
    Service,
    ServiceAccountToken,
)
from lightkube.types import PatchType

from volant.errors import InvalidInput
from volant.kubernetes.persistent_volumes import find_volume
from volant.kubernetes.references import (
    Found,
    Missing,
    Reference,
    get_spec,
    list_claims,
    list_references,
    list_tokens,
)
from volant.kubernetes.service_variables import MASTER_NAMESPACE, MASTER_SERVICE

log = logging.getLogger(__name__)
# The server ends a watch after so long, and everything is listed again: what was missed is seen then.
RESYNC_SECONDS = 600
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 15.0
# What the cluster does not let this node see is asked for again seldom.
FORBIDDEN_RETRY_SECONDS = 120.0
# A watch is silent for long. Whether the server is still there is asked by the kernel: after 45 s it is not.
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]  # fmt: skip
# What an unreachable cluster, or one that is out of sorts, ends a call with.
ClusterFailed = (ApiError, httpx2.HTTPError)


class Cluster:
    """A connection with the node's own rights."""

    def __init__(self, kubeconfig: Path) -> None:
        config = KubeConfig.from_file(kubeconfig)
        self.client = AsyncClient(config=config)
        # Watches stay open, and must not use up the connections that everything else is asked on.
        self._watching = AsyncClient(config=config, transport=_make_transport(config))

    async def watch_pods(
        self, node: str, on_listed: Callable[[list[Pod]], None]
    ) -> AsyncIterator[tuple[str, Pod]]:
        """Every change of this node's pods, for ever. `on_listed` is told all of them, at first and after each cut."""
        async for change in self.watch(Pod, on_listed, namespace="*", fields={"spec.nodeName": node}):
            yield change

    async def watch(
        self, kind: Any, on_listed: Callable[[list[Any]], None], **which: Any
    ) -> AsyncIterator[tuple[str, Any]]:
        """Every change of objects of this kind, for ever. `which`: namespace and fields, as the library takes them."""
        pause_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                listing = self._watching.list(kind, **which)
                on_listed([one async for one in listing])
                pause_seconds = FIRST_RETRY_SECONDS
                watch = self._watching.watch(
                    kind, server_timeout=RESYNC_SECONDS, resource_version=listing.resourceVersion, **which
                )
                ends_at = asyncio.get_running_loop().time() + RESYNC_SECONDS
                changes = aiter(watch)
                while True:
                    async with asyncio.timeout_at(ends_at):
                        change = await anext(changes)
                    yield change
            except (TimeoutError, StopAsyncIteration):
                continue
            except Exception as error:
                log.warning("cannot watch %ss: %s; asking again", kind.__name__, error)
                if isinstance(error, ApiError) and error.status.code == 403:
                    await asyncio.sleep(FORBIDDEN_RETRY_SECONDS)
            # Many watches end at once with their server: they do not come again at once.
            await asyncio.sleep(pause_seconds * random.uniform(0.5, 1))  # noqa: S311  # no secret
            pause_seconds = min(2 * pause_seconds, MOST_RETRY_SECONDS)

    async def find(self, pod: Pod) -> Found:
        """What the pod refers to, as far as it is there."""
        assert pod.metadata is not None and pod.metadata.namespace
        namespace = pod.metadata.namespace
        objects = {}
        for reference in list_references(pod):
            with suppress(ApiError):
                objects[reference] = await self._read(reference, namespace)
        tokens = {}
        for wanted in list_tokens(pod):
            request = TokenRequestSpec(
                audiences=[wanted.audience] if wanted.audience else [],
                expirationSeconds=wanted.seconds,
                boundObjectRef=BoundObjectReference(
                    apiVersion="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid
                ),
            )
            account = get_spec(pod).serviceAccountName or "default"
            with suppress(ApiError):
                reply = await self.client.create(
                    ServiceAccountToken(metadata=ObjectMeta(), spec=request), account, namespace=namespace
                )
                if reply.status is not None and reply.status.token:
                    tokens[wanted] = reply.status.token
        volumes = {
            claim: await self._find_volume(pod, claim, is_own=is_own)
            for claim, is_own in list_claims(pod).items()
        }
        return Found(objects, tokens, volumes, await self._find_services(pod))

    async def _find_services(self, pod: Pod) -> list[Service]:
        """The API server's, and those of the pod's namespace unless the pod wants none. What is named later counts."""
        assert pod.metadata is not None and pod.metadata.namespace
        found: list[Service] = []
        with suppress(ApiError):
            found.append(await self.client.get(Service, MASTER_SERVICE, namespace=MASTER_NAMESPACE))
        if get_spec(pod).enableServiceLinks is not False:
            with suppress(ApiError):
                found += [one async for one in self.client.list(Service, namespace=pod.metadata.namespace)]
        return found

    async def _find_volume(self, pod: Pod, claim: str, *, is_own: bool) -> str:
        """The daemon's volume that a claim of the pod is bound to. Raises Missing or Refused."""
        assert pod.metadata is not None
        try:
            found = await self.client.get(PersistentVolumeClaim, claim, namespace=pod.metadata.namespace)
            owners = (found.metadata.ownerReferences if found.metadata is not None else None) or []
            if is_own and pod.metadata.uid not in {owner.uid for owner in owners}:
                raise Missing(f"the claim {claim} is not this pod's own", "ContainerCreating")
            name = found.spec.volumeName if found.spec is not None else None
            if found.status is None or found.status.phase != "Bound" or not name:
                raise Missing(f"the claim {claim} is not bound yet", "ContainerCreating")
            return find_volume(await self.client.get(PersistentVolume, name), get_spec(pod).nodeName or "")
        except ApiError as error:
            raise Missing(f"the claim {claim}: {error}", "ContainerCreating") from error

    async def _read(self, reference: Reference, namespace: str) -> dict[str, bytes]:
        if reference.kind == "ConfigMap":
            return read_values(await self.client.get(ConfigMap, reference.name, namespace=namespace))
        return read_values(await self.client.get(Secret, reference.name, namespace=namespace))

    async def tell_status(self, pod: Pod, status: dict[str, Any]) -> bool:
        """False where the pod is gone."""
        assert pod.metadata is not None and pod.metadata.name
        try:
            # The UID makes it a conflict where another pod has taken the name.
            body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
            await self.client.patch(
                Pod.Status,
                pod.metadata.name,
                body,
                namespace=pod.metadata.namespace,
                patch_type=PatchType.STRATEGIC,
            )
        except ApiError as error:
            if error.status.code in (404, 409):
                return False
            raise
        return True

    async def remove(self, pod: Pod) -> None:
        """The pod's object, at last: nothing of it runs any more."""
        assert pod.metadata is not None and pod.metadata.name
        with suppress(ApiError):
            await self.client.delete(
                Pod, pod.metadata.name, namespace=pod.metadata.namespace or "default", grace_period=0
            )


def read_values(found: ConfigMap | Secret) -> dict[str, bytes]:
    """The bytes of each key."""
    if isinstance(found, Secret):
        return {key: base64.b64decode(text) for key, text in (found.data or {}).items()}
    values = {key: text.encode() for key, text in (found.data or {}).items()}
    return values | {key: base64.b64decode(text) for key, text in (found.binaryData or {}).items()}


def _make_transport(kubeconfig: KubeConfig) -> httpx2.AsyncHTTPTransport | None:
    """For as many connections as there are watches, each of which notices when its server is gone."""
    config = kubeconfig.get()
    if config is None or config.user is None or "https" in urllib.request.getproxies():
        return None  # the library's own finds the way through a proxy
    verify = verify_cluster(config.cluster, config.user, config.abs_file)
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncHTTPTransport(verify=verify, limits=limits, socket_options=KEEPALIVE)


def read_ca(kubeconfig: Path) -> bytes:
    """The certificate authority of the cluster, by which the node's clients are known. Raises InvalidInput."""
    config = KubeConfig.from_file(kubeconfig).get()
    if config is not None and config.cluster.certificate_auth_data:
        return base64.b64decode(config.cluster.certificate_auth_data)
    if config is not None and config.cluster.certificate_auth:
        return Path(config.abs_file(config.cluster.certificate_auth)).read_bytes()
    raise InvalidInput(f"cannot join the cluster of {kubeconfig}: it names no certificate authority")
