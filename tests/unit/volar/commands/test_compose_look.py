# SPDX-License-Identifier: Apache-2.0
"""What a stack has and does, over the whole API in this process."""

from __future__ import annotations

import json

from unit.volar.commands.conftest import Shop


def test_what_it_has_and_does_is_listed(shop: Shop) -> None:
    assert shop("up", "-d", "--wait", "--quiet-pull").exit_code == 0
    shown = {row["Service"]: row for row in map(json.loads, shop("ps", "--format", "json").out.splitlines())}
    assert (shown["web"]["Name"], shown["web"]["State"], shown["web"]["Health"]) == (
        "shop-web-1",
        "running",
        "healthy",
    )
    (published,) = [each for each in shown["web"]["Publishers"] if each["TargetPort"] == 80]
    place = f"{published['URL']}:{published['PublishedPort']}"
    assert shop("port", "web", "80").out == f"{place}\n"
    assert f"{place}->80/tcp" in shop("ps", "-a").out
    missing = shop("port", "db", "80")
    assert (missing.exit_code, "is not published" in missing.err) == (4, True)
    assert shop("ps", "--services", "--status", "running").out.split() == ["db", "web"]
    assert shop("ps", "--status", "paused", "-q").out == ""
    assert [line.split()[:2] for line in shop("top").out.splitlines()[1:]] == [
        ["shop-db-1", "web"], ["shop-web-1", "web"],
    ]  # fmt: skip
    assert shop("ls").out.splitlines()[1].split() == ["shop", "running(2)"]
    assert shop("ls", "-q").out == "shop\n"
    assert json.loads(shop("ls", "--format", "json").out) == [{"Name": "shop", "Status": "running(2)"}]


def test_lines(shop: Shop) -> None:
    assert shop("up", "-d", "--wait").exit_code == 0
    every = shop("logs", "-n", "all", "--no-color", "web").out.splitlines()
    assert all(line.startswith("shop-web-1 | ") for line in every)
    assert shop("logs", "--tail", "1", "web").out.splitlines() == every[-1:]
    assert shop("logs", "--no-log-prefix", "web").out.splitlines() == [line[13:] for line in every]
    assert shop("logs", "--since", "2100-01-01T00:00:00Z").out == ""
    stamped = shop("logs", "-t", "--no-log-prefix", "web").out.splitlines()
    assert [line.partition(" ")[2] for line in stamped] == [line[13:] for line in every]
    assert shop("logs", "-n", "some").exit_code == 2
