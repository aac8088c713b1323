# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from lightkube.core.exceptions import ApiError
from lightkube.models.meta_v1 import Status
from lightkube.resources.core_v1 import Pod

from volant.errors import InvalidInput
from volant.kubernetes.cluster import Cluster, read_ca


def write(path: Path, **cluster: Any) -> Path:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.9:6443", **cluster}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def test_the_clusters_authority_is_in_the_file_or_beside_it(tmp_path: Path) -> None:
    data = base64.b64encode(b"inside").decode()
    assert read_ca(write(tmp_path / "a", **{"certificate-authority-data": data})) == b"inside"
    (tmp_path / "ca.crt").write_bytes(b"beside")
    assert read_ca(write(tmp_path / "b", **{"certificate-authority": "ca.crt"})) == b"beside"
    with pytest.raises(InvalidInput, match="names no certificate authority"):
        read_ca(write(tmp_path / "c"))


class Api:
    """Lists and watches as it is told."""

    def __init__(self) -> None:
        self.lists = 0
        self.failures: list[Exception] = []

    def list(self, kind: Any, **_: Any) -> Any:
        self.lists += 1
        return Listing()

    async def watch(self, kind: Any, **_: Any) -> Any:
        yield "ADDED", self.lists
        if self.failures:
            raise self.failures.pop()
        await asyncio.Event().wait()


class Listing:
    resourceVersion = "7"  # noqa: N815  # as the cluster calls it

    async def __aiter__(self) -> Any:
        yield "listed"


def make_cluster(path: Path) -> tuple[Cluster, Api]:
    cluster, api = Cluster(write(path / "kubeconfig", **{"insecure-skip-tls-verify": True})), Api()
    cluster.client = cluster._watching = cast("Any", api)
    return cluster, api


async def test_a_watch_that_ends_begins_with_a_list_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.kubernetes.cluster.FIRST_RETRY_SECONDS", 0.001)
    cluster, api = make_cluster(tmp_path)
    gone = ApiError(status=Status(code=410, message="too old resource version"))
    api.failures = [httpx2.ReadError("reset"), gone]
    listed: list[Any] = []
    seen = []
    async with asyncio.timeout(60):
        async for change in cluster.watch(Pod, listed.append):
            seen.append(change)
            if len(seen) == 3:
                break
    assert seen == [("ADDED", 1), ("ADDED", 2), ("ADDED", 3)]
    assert listed == [["listed"]] * 3


async def test_who_takes_long_over_a_change_is_not_cut_off_by_the_watchs_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.kubernetes.cluster.RESYNC_SECONDS", 0.02)
    monkeypatch.setattr("volant.kubernetes.cluster.FIRST_RETRY_SECONDS", 0.001)
    cluster, _ = make_cluster(tmp_path)
    count = 0
    async with asyncio.timeout(60):
        async for _ in cluster.watch(Pod, lambda found: None):
            await asyncio.sleep(0.05)
            count += 1
            if count == 3:
                break
