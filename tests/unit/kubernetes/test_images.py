# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from volant.errors import InvalidInput, NotFound
from volant.kubernetes.images import Images
from volant.plugin_sources.source import find_image


class Steps:
    """What is tried, in order. `there`: the daemon has the image's plugin; `is_plugin`: so has the registry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, there: bool, is_plugin: bool) -> None:
        self.tried: list[str] = []

        def make(client: Any, text: str, options: Any, find: Any) -> str:
            assert find is find_image, "no path of the host is an image"
            self.tried.append(f"make {options.pull}")
            if options.pull == "never" and not there:
                raise NotFound("none")
            return "web:1.0.0"

        def pull(client: Any, reference: str) -> dict[str, str]:
            self.tried.append("pull")
            if not is_plugin:
                raise InvalidInput("an image")
            return {"name": "pulled", "version": "2.0.0"}

        monkeypatch.setattr("volant.kubernetes.images.make_plugin", make)
        monkeypatch.setattr("volant.kubernetes.images.pull_and_install", pull)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("image", "policy", "there", "is_plugin", "tried", "plugin"),
    [
        ("web:1.0.0", None, True, False, ["make missing"], "web:1.0.0"),
        ("registry.example.com/web:1", None, True, False, ["make never"], "web:1.0.0"),
        ("registry.example.com/web:1", None, False, True, ["make never", "pull"], "pulled:2.0.0"),
        (
            "registry.example.com/web:1",
            None,
            False,
            False,
            ["make never", "pull", "make always"],
            "web:1.0.0",
        ),
        ("registry.example.com/web:1", "Always", True, True, ["pull"], "pulled:2.0.0"),
        ("registry.example.com/web:1", "Never", True, True, ["make never"], "web:1.0.0"),
    ],
)
async def test_where_an_images_plugin_comes_from(
    monkeypatch: pytest.MonkeyPatch, image: str, policy: str | None, there: bool, is_plugin: bool, tried: list[str],
    plugin: str,
) -> None:  # fmt: skip
    steps = Steps(monkeypatch, there=there, is_plugin=is_plugin)
    assert await Images(cast("Any", None)).provide(image, policy) == plugin
    assert steps.tried == tried
