# SPDX-License-Identifier: Apache-2.0
"""The cluster as this node sees it: its pods by list and watch, and what they refer to."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.authentication_v1 import BoundObjectReference, TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod, Secret, ServiceAccountToken
from lightkube.types import PatchType

from volant.errors import InvalidInput
from volant.kubernetes.references import Found, Reference, get_spec, list_references, list_tokens

log = logging.getLogger(__name__)
# The server ends a watch after so long, and everything is listed again: what was missed is seen then.
RESYNC_SECONDS = 600
RETRY_SECONDS = 2.0


class Cluster:
    """A connection with the node's own rights."""

    def __init__(self, kubeconfig: Path) -> None:
        config = KubeConfig.from_file(kubeconfig)
        self.client = AsyncClient(config=config)

    async def watch_pods(
        self, node: str, on_listed: Callable[[list[Pod]], None]
    ) -> AsyncIterator[tuple[str, Pod]]:
        """Every change of this node's pods, for ever. `on_listed` is told all of them, at first and after each cut."""
        fields: dict[str, Any] = {"spec.nodeName": node}
        while True:
            try:
                listing = self.client.list(Pod, namespace="*", fields=fields)
                pods = [pod async for pod in listing]
                on_listed(pods)
                watch = self.client.watch(
                    Pod, namespace="*", fields=fields, server_timeout=RESYNC_SECONDS,
                    resource_version=listing.resourceVersion,
                )  # fmt: skip
                async with asyncio.timeout(RESYNC_SECONDS):
                    async for kind, pod in watch:
                        yield kind, pod
            except TimeoutError:
                continue
            except Exception as error:
                log.warning("cannot watch pods: %s; asking again", error)
            await asyncio.sleep(RETRY_SECONDS)

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
        return Found(objects, tokens)

    async def _read(self, reference: Reference, namespace: str) -> dict[str, bytes]:
        if reference.kind == "ConfigMap":
            config = await self.client.get(ConfigMap, reference.name, namespace=namespace)
            values = {key: text.encode() for key, text in (config.data or {}).items()}
            return values | {key: base64.b64decode(text) for key, text in (config.binaryData or {}).items()}
        secret = await self.client.get(Secret, reference.name, namespace=namespace)
        return {key: base64.b64decode(text) for key, text in (secret.data or {}).items()}

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


def read_ca(kubeconfig: Path) -> bytes:
    """The certificate authority of the cluster, by which the node's clients are known. Raises InvalidInput."""
    config = KubeConfig.from_file(kubeconfig).get()
    if config is not None and config.cluster.certificate_auth_data:
        return base64.b64decode(config.cluster.certificate_auth_data)
    if config is not None and config.cluster.certificate_auth:
        return Path(config.abs_file(config.cluster.certificate_auth)).read_bytes()
    raise InvalidInput(f"cannot join the cluster of {kubeconfig}: it names no certificate authority")
