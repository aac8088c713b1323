# SPDX-License-Identifier: Apache-2.0
"""Stacks and deployments in Chromium: what belongs together, how far an update is, scaling and going back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from support.browser import check_accessibility
from support.host import wait_until
from support.in_process_daemon import InProcessDaemon, start_in_process

PROJECT, SERVICE, DIGEST = (f"volant.compose.{word}" for word in ("project", "service", "digest"))
SCRIPT = "<img src=x onerror=window.entered=1>"


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as daemon:
        daemon.install("web")
        for name, service in (("blog-db-1", "db"), ("blog-pages-1", "pages"), ("blog-pages-2", "pages")):
            daemon.client.create_vm(
                {
                    "name": name,
                    "plugin": "web",
                    "start": service == "pages",
                    "publish": [{"guest_port": 80}],
                    "egress": "none",
                    "labels": {PROJECT: "blog", SERVICE: service, DIGEST: "0123", "team": "press"},
                }
            )
        daemon.client.create_vm(
            {"name": "odd", "plugin": "web", "start": False, "labels": {PROJECT: SCRIPT, SERVICE: SCRIPT}}
        )
        yield daemon


def open_stacks(daemon: InProcessDaemon, context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto(daemon.client.post("/dashboard/links")["url"])
    page.get_by_role("link", name="Stacks").click()
    expect(page.get_by_role("region", name="Stack blog")).to_be_visible()
    return page


def check_on_every_screen(page: Page) -> None:
    for width, is_dark in ((1280, False), (390, False), (390, True), (1280, True)):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme="dark" if is_dark else "light")
        check_accessibility(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"sticks out at {width}"


def test_a_stack_is_shown_by_services_with_each_vm_its_health_and_ports(
    daemon: InProcessDaemon, context: BrowserContext
) -> None:
    page = open_stacks(daemon, context)
    stack = page.get_by_role("region", name="Stack blog")
    expect(stack).to_contain_text("2 of 3 up")
    expect(stack.get_by_role("rowheader")).to_have_text(["db", "pages"])
    expect(stack.locator("tbody tr")).to_have_count(3)
    row = stack.locator("tbody tr", has_text="blog-pages-2")
    expect(row).to_contain_text("healthy")
    published = next(
        port for port in daemon.client.get_vm("blog-pages-2")["ports"] if port["guest_port"] == 80
    )
    expect(row).to_contain_text(f"{published['host_ip']}:{published['host_port']} → 80")
    expect(page.get_by_role("region", name=f"Stack {SCRIPT}")).to_contain_text(SCRIPT)
    check_on_every_screen(page)
    assert page.evaluate("window.entered") is None, "a label is text"

    # The list says which stack a VM is of, and shows the labels that people gave.
    row.get_by_role("link", name="blog-pages-2").click()
    title = page.locator(".heading .title")
    expect(title).to_contain_text("team=press")
    expect(title).not_to_contain_text("0123")
    expect(page.locator(".facts")).to_contain_text("May reachnone")
    title.get_by_role("link", name="blog").click()
    expect(page.get_by_role("heading", name="Stacks")).to_be_visible()


def test_a_deployment_is_followed_through_an_update_scaled_and_rolled_back(
    daemon: InProcessDaemon, context: BrowserContext
) -> None:
    client = daemon.client
    client.create_deployment(
        {"name": "shop", "replicas": 2, "vm": {"plugin": "web"}, "publish": [{"guest_port": 8080}]}
    )
    page = open_stacks(daemon, context)
    card = page.get_by_role("region", name="Deployment shop")
    expect(card).to_contain_text("2 of 2At revision 12 of 2")
    (port,) = client.get_deployment("shop")["publish"]
    expect(card).to_contain_text(f"{port['host_ip']}:{port['host_port']} → 8080")
    expect(card.get_by_role("button", name="Roll back")).to_be_disabled()

    client.update_deployment("shop", {"change": {"env": {"LEVEL": "debug"}}})
    expect(card.get_by_label("At revision 2")).to_be_visible()
    expect(card.locator("li", has_text="revision 2")).to_have_count(2)
    expect(card).to_contain_text("2 of 2At revision 22 of 2")

    card.get_by_role("button", name="One VM more").click()
    expect(card.locator("li", has_text="ready")).to_have_count(3)
    check_on_every_screen(page)
    card.get_by_role("button", name="One VM fewer").click()
    expect(card.locator("li")).to_have_count(2)

    card.get_by_role("button", name="Roll back").click()
    check_accessibility(page)
    page.get_by_role("dialog").get_by_role("button", name="Roll it back").click()
    expect(card.get_by_label("At revision 3")).to_be_visible()
    wait_until("the deployment to be ready", lambda: client.get_deployment("shop")["status"] == "ready", 60)
    assert [revision["cause"] for revision in client.list_revisions("shop")][-1] == "rollback to 1"

    # An event of a deployment leads to it, not to a VM of its name.
    page.get_by_role("link", name="Events").click()
    page.get_by_role("row", name="deployment").first.get_by_role("link", name="shop", exact=True).click()
    expect(page.get_by_role("heading", name="Stacks")).to_be_visible()
