# SPDX-License-Identifier: Apache-2.0
"""The page of a daemon with many VMs, and a guest that writes much, in Chromium; the guests are fakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from support.browser import check_accessibility
from support.in_process_daemon import InProcessDaemon, start_in_process

VMS = 150
FLOOD_BYTES = 3_000_000
FLOOD_MS = 300_000  # on an overloaded machine


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as daemon:
        daemon.install("web")
        for number in range(VMS):
            daemon.client.create_vm({"name": f"vm-{number:03}", "plugin": "web", "start": False})
        yield daemon


def sign_in(daemon: InProcessDaemon, context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto(daemon.client.post("/dashboard/links")["url"])
    expect(page.get_by_role("link", name="vm-000")).to_be_visible()
    return page


@pytest.mark.parametrize("width", [1280, 390])
def test_of_many_vms_those_near_the_screen_are_in_the_page(
    width: int, daemon: InProcessDaemon, context: BrowserContext
) -> None:
    page = sign_in(daemon, context)
    page.set_viewport_size({"width": width, "height": 800})
    rows = page.locator("tr[data-row]")
    assert 0 < rows.count() < VMS
    assert page.get_by_role("table").get_attribute("aria-rowcount") == str(VMS + 1)
    page.mouse.move(width / 2, 400)
    last = page.get_by_role("link", name=f"vm-{VMS - 1}")
    while not last.count():
        page.mouse.wheel(0, 2000)
        page.wait_for_timeout(50)
    last.scroll_into_view_if_needed()
    expect(rows.last).to_have_attribute("aria-rowindex", str(VMS + 1))
    expect(page.get_by_role("link", name="vm-000")).to_have_count(0)
    check_accessibility(page)
    page.get_by_label("Search VMs").fill("vm-07")
    expect(rows).to_have_count(10)


def test_the_keyboard_walks_beyond_the_screen(daemon: InProcessDaemon, context: BrowserContext) -> None:
    page = sign_in(daemon, context)
    for _ in range(90):
        page.keyboard.press("j")
        page.wait_for_timeout(5)
    focused = page.locator("tr[data-row]:focus")
    expect(focused).to_be_in_viewport()
    index = int(focused.get_attribute("aria-rowindex") or 0)
    assert 60 < index <= 91, "the window follows the row that has the keyboard"


def test_a_flood_loses_nothing(daemon: InProcessDaemon, context: BrowserContext) -> None:
    """Three times what may be on its way without acknowledgement; bench/bench_dashboard.py sends 100 MB."""
    daemon.client.create_vm({"name": "talker", "plugin": "web"})
    page = sign_in(daemon, context)
    page.goto(f"{page.url.partition('#')[0]}#/vms/talker/shell")
    screen = page.locator(".xterm-rows")
    expect(screen).to_contain_text("$")
    page.keyboard.type(f"flood {FLOOD_BYTES}\n")
    expect(screen).to_contain_text("all told", timeout=FLOOD_MS)
    expect(screen).to_contain_text(f"{FLOOD_BYTES // 100 - 1:098d}")
    received = int(page.locator(".screen").get_attribute("data-received-bytes") or 0)
    assert 0 < received - FLOOD_BYTES < 100, "the prompts and what was typed, and nothing else"
    daemon.client.delete_vm("talker", force=True)


def test_a_volume_is_shown_and_deleted(daemon: InProcessDaemon, context: BrowserContext) -> None:
    daemon.client.create_volume("data", "1G")
    page = sign_in(daemon, context)
    page.get_by_role("link", name="Volumes").click()
    row = page.get_by_role("row", name="data")
    expect(row).to_contain_text("1.0 GiB")
    check_accessibility(page)
    row.get_by_role("button", name="Delete data").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page.locator("main")).to_contain_text("No volume yet")
    assert daemon.client.list_volumes() == []
