# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest
from lightkube.models.authentication_v1 import TokenReviewStatus, UserInfo
from lightkube.models.authorization_v1 import SubjectAccessReviewStatus
from lightkube.resources.authentication_v1 import TokenReview

from support.fake_cluster import FakeCluster
from volant.kubernetes.access import Access, User, find_subresource, read_certificate

CERTIFICATE = {"subject": ((("organizationName", "system:masters"),), (("commonName", "apiserver"),))}


def make_access(*, allowed: bool = True) -> tuple[Access, FakeCluster]:
    cluster = FakeCluster()

    def answer(made: Any) -> Any:
        if isinstance(made, TokenReview):
            is_known = made.spec.token == "good"
            user = UserInfo(username="metrics", groups=["g"]) if is_known else None
            made.status = TokenReviewStatus(authenticated=is_known, user=user)
        else:
            made.status = SubjectAccessReviewStatus(allowed=allowed)
        return made

    cluster.client.answer = answer
    return Access(cast("Any", cluster), "host-1"), cluster


def test_a_certificate_names_user_and_groups() -> None:
    assert read_certificate(CERTIFICATE) == User("apiserver", ("system:masters",))
    assert read_certificate(None) is None
    assert read_certificate({"subject": ()}) is None


@pytest.mark.parametrize(
    ("path", "subresource"),
    [
        ("/stats/summary", "stats"),
        ("/metrics/resource", "metrics"),
        ("/exec/a/b/c", "proxy"),
        ("/containerLogs/a/b/c", "proxy"),
    ],
)
def test_paths_are_what_a_kubelet_asks_an_authorizer_for(path: str, subresource: str) -> None:
    assert find_subresource(path) == subresource


@pytest.mark.asyncio
async def test_a_token_is_asked_about_once_and_a_wrong_one_is_nobody() -> None:
    access, cluster = make_access()
    for _ in range(2):
        assert await access.find_user(None, "Bearer good") == User("metrics", ("g",))
        assert await access.find_user(None, "Bearer bad") is None
    assert await access.find_user(None, "") is None
    assert len(cluster.client.created) == 2


@pytest.mark.asyncio
async def test_the_cluster_says_who_may_and_is_asked_once_a_minute() -> None:
    for allowed in (True, False):
        access, cluster = make_access(allowed=allowed)
        for _ in range(2):
            assert await access.may(User("u", ()), "websocket", "/exec/a/b/c") is allowed
        (review,) = cluster.client.created
        attributes = review.spec.resourceAttributes
        assert (attributes.verb, attributes.resource, attributes.subresource, attributes.name) == (
            "create", "nodes", "proxy", "host-1",
        )  # fmt: skip
