# SPDX-License-Identifier: Apache-2.0
"""Who may ask this node: a client certificate of the cluster's CA or a token, and then the cluster's own authorizer.

As the kubelet does it with --authorization-mode=Webhook: nodes/log, nodes/stats, nodes/metrics and nodes/proxy.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from lightkube.models.authentication_v1 import TokenReviewSpec
from lightkube.models.authorization_v1 import ResourceAttributes, SubjectAccessReviewSpec
from lightkube.resources.authentication_v1 import TokenReview
from lightkube.resources.authorization_v1 import SubjectAccessReview

from volant.kubernetes.cluster import Cluster

REMEMBER_SECONDS = 60.0
MOST_REMEMBERED = 1000
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "DELETE": "delete",
    # It runs programs and opens ports: who may only look (get nodes/proxy, as monitors may) may not do that.
    "websocket": "create",
}


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]


def read_certificate(certificate: dict[str, Any] | None) -> User | None:
    """The user of a verified client certificate: its common name, its organizations are groups."""
    facts = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    names = [value for kind, value in facts if kind == "commonName"]
    groups = tuple(value for kind, value in facts if kind == "organizationName")
    return User(names[0], groups) if names else None


def find_subresource(path: str) -> str:
    """As the kubelet maps its paths to what an authorizer is asked for."""
    first = path.strip("/").split("/")[0]
    return {"stats": "stats", "metrics": "metrics", "logs": "log", "healthz": "healthz", "pods": "pods"}.get(
        first, "proxy"
    )


class Access:
    """Answers are remembered for a minute."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._known: dict[tuple[object, ...], tuple[float, bool]] = {}
        self._tokens: dict[bytes, tuple[float, User | None]] = {}

    async def find_user(self, certificate: dict[str, Any] | None, authorization: str) -> User | None:
        user = read_certificate(certificate)
        if user is not None or not authorization.startswith("Bearer "):
            return user
        token = authorization.removeprefix("Bearer ").strip()
        # Neither kept, nor so long that strangers fill the memory.
        key = hashlib.sha256(token.encode()).digest()
        known = self._tokens.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        review = await self._cluster.client.create(TokenReview(spec=TokenReviewSpec(token=token)))
        told = review.status.user if review.status is not None and review.status.authenticated else None
        found = User(told.username or "", tuple(told.groups or ())) if told is not None else None
        if len(self._tokens) >= MOST_REMEMBERED:
            self._tokens.clear()
        self._tokens[key] = (time.monotonic() + REMEMBER_SECONDS, found)
        return found

    async def may(self, user: User, method: str, path: str) -> bool:
        verb, subresource = _VERBS.get(method, "get"), find_subresource(path)
        key = (user, verb, subresource)
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        attributes = ResourceAttributes(
            verb=verb, version="v1", resource="nodes", subresource=subresource, name=self._node
        )
        spec = SubjectAccessReviewSpec(
            user=user.name, groups=list(user.groups), resourceAttributes=attributes
        )
        review = await self._cluster.client.create(SubjectAccessReview(spec=spec))
        allowed = review.status is not None and bool(review.status.allowed)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (time.monotonic() + REMEMBER_SECONDS, allowed)
        return allowed
