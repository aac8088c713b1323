# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real Chromium against a real VM, and what other pages can do to it (nothing)."""

from __future__ import annotations

import gzip
import http.server
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Response, expect

from support.browser import check_accessibility, take_picture
from support.host import Host

SCRIPT = "<img src=x onerror=window.entered=1>"
FIRST_LOAD_BYTES = 300_000
BOOT_MS = 120_000


def sign_in(host: Host, context: BrowserContext) -> tuple[Page, str, list[str]]:
    """A page that is let in, its address, and every error that its console shows from now on."""
    link = host.volar("dashboard", "--no-open").stdout.strip()
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(link)
    expect(page.get_by_role("heading", name="VMs")).to_be_visible()
    return page, link.partition("/#")[0], errors


def type_and_wait(page: Page, line: str, answer: str | re.Pattern[str]) -> None:
    page.keyboard.type(f"{line}\n")
    expect(page.locator(".xterm-rows")).to_contain_text(answer)


@contextmanager
def serve_foreign_page(content: str) -> Iterator[tuple[int, list[str]]]:
    """A server as a guest's published port may be; yields its port and the cookies that it was shown."""
    shown: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], shown
        finally:
            server.shutdown()
            thread.join()


def check_no_other_page_gets_in(context: BrowserContext, place: str, vm: str) -> None:
    """A page of another origin that knows the dashboard's address, in a browser that is signed in there."""
    hostile = f"""<!doctype html><title>guest</title><iframe id=f src="{place}/"></iframe><script>
      const ask = (path, options) => fetch("{place}/api/v1" + path, {{credentials: "include", ...options}})
        .then((reply) => reply.type, () => "refused");
      Promise.all([
        ask("/vms", {{}}),
        ask("/vms/{vm}/stop", {{method: "POST", mode: "no-cors"}}),
        new Promise((done) => {{
          const socket = new WebSocket("{place.replace("http", "ws")}/api/v1/vms/{vm}/console");
          socket.onopen = () => done("opened"); socket.onerror = () => done("refused");
        }}),
      ]).then((answers) => document.title = answers.join(" "));
    </script>"""
    with serve_foreign_page(hostile) as (port, cookies):
        page = context.new_page()
        for name in ("127.0.0.1", "localhost"):
            page.goto(f"http://{name}:{port}/")
            expect(page).to_have_title("refused refused refused")
            expect(page.frame_locator("#f").locator("#page")).to_have_count(0)
        page.close()
    assert set(cookies) == {""}, "the cookie went to another port of this host"


def check_nothing_sticks_out(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} on a phone"


def test_a_vm_from_its_form_to_its_end(host: Host, nginx_plugin: Path, context: BrowserContext) -> None:
    page, place, errors = sign_in(host, context)
    assert "code" not in page.url, "the code is out of the address"
    check_accessibility(page)

    # The form is the manifest's; what it cannot accept it says, as text.
    page.keyboard.press("c")
    choice = page.locator("select").filter(has_text="nginx")
    choice.select_option("nginx:1.0.0")
    expect(page.get_by_label("Published ports, row 1: guest port")).to_have_value("80")
    page.get_by_label("Name", exact=False).first.fill(SCRIPT)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("onerror")
    errors.clear()  # the browser tells of the refused request itself
    page.get_by_label("Name", exact=False).first.fill("web")
    page.get_by_role("button", name="Add a label").click()
    page.get_by_label("Labels, row 1: label").fill("note")
    page.get_by_label("Labels, row 1: value").fill(SCRIPT)
    check_accessibility(page)
    page.get_by_role("button", name="Create web").click()

    # It becomes healthy before our eyes, without a reload, and tells how it booted.
    title = page.locator(".heading .title")
    expect(title).to_contain_text("healthy", timeout=BOOT_MS)
    expect(title).to_contain_text(SCRIPT)
    expect(page.locator(".timeline")).to_contain_text("agent answers")
    expect(page.locator("main")).to_contain_text("Processes")
    check_accessibility(page)
    host.volar("vms", "update", "web", "--label-rm", "note", "--label", "team=shop")
    expect(title).to_contain_text("team=shop")
    take_picture(page, "dashboard-vm")
    check_no_other_page_gets_in(context, place, "web")
    assert host.vm("web")["status"] == "running"

    # Logs follow; a line is text whatever is in it.
    url = host.vm("web")["url"]
    page.get_by_role("link", name="Logs").click()
    urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": SCRIPT}), timeout=20).close()
    expect(page.get_by_role("log")).to_contain_text(SCRIPT)
    page.get_by_label("Show lines with").fill("no such line")
    expect(page.get_by_role("log")).to_contain_text("No line has this.")
    check_accessibility(page)

    # A shell with a terminal of this very size, and more output than the window holds.
    page.get_by_role("link", name="Shell").click()
    expect(page.get_by_text("A shell in web")).to_be_visible()
    type_and_wait(page, "echo size-$(stty size | tr ' ' x)", re.compile(r"size-\d{2}x\d{2,3}"))
    type_and_wait(page, "head -c 2000000 /dev/zero | tr '\\0' . ; echo; echo all-$((6*7))", "all-42")
    assert int(page.locator(".screen").get_attribute("data-received-bytes") or 0) > 2_000_000
    check_accessibility(page)

    # The serial console, both ways: what a program there answers to what is typed here.
    answer = "while read line; do echo heard-$line; done"
    host.volar("vms", "exec", "web", "--", "sh", "-c", f"setsid sh -c '{answer}' <>/dev/console >&0 2>&1 &")
    page.get_by_role("link", name="Console").click()
    expect(page.get_by_text("The serial console of web")).to_be_visible()
    type_and_wait(page, "word-7", "heard-word-7")
    check_accessibility(page)

    page.get_by_role("link", name="Usage").click()
    for chart in ("CPU", "Memory", "Disk", "Network"):
        expect(page.get_by_role("img", name=re.compile(rf"^{chart}: \d"))).to_be_visible()
    check_accessibility(page)

    page.get_by_role("button", name="Snapshot").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("before-it-broke")
    dialog.get_by_role("button", name="Take it").click()
    expect(page.get_by_role("row", name="before-it-broke")).to_contain_text("disk and memory")
    check_accessibility(page)

    # Broken: the page says that it is, and why.
    page.goto(f"{place}/#/vms/web")
    page.get_by_role("link", name="Shell").click()
    expect(page.get_by_text("A shell in web")).to_be_visible()
    type_and_wait(page, "mv /usr/sbin/nginx /root; kill $(cat /run/nginx.pid); echo gone-$((6*7))", "gone-42")
    page.get_by_role("link", name="Overview").click()
    why = page.get_by_role("region", name="Why")
    expect(why).to_contain_text("nothing listens", timeout=BOOT_MS)
    expect(title).to_contain_text("unhealthy", timeout=BOOT_MS)
    check_accessibility(page)

    # The same on a phone and in the dark.
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    check_accessibility(page)
    check_nothing_sticks_out(page)
    for tab in ("logs", "shell", "console", "usage"):
        page.goto(f"{place}/#/vms/web/{tab}")
        expect(page.locator(".tabs [aria-current]")).to_have_attribute("href", f"#/vms/web/{tab}")
        check_nothing_sticks_out(page)
    page.goto(f"{place}/#/vms")
    expect(page.get_by_role("link", name="web")).to_be_visible()
    check_accessibility(page)
    check_nothing_sticks_out(page)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")

    for view, words in (
        ("stacks", "No stack and no deployment yet"),
        ("plugins", "nginx"), ("snapshots", "before-it-broke"), ("volumes", "No volume yet"),
        ("secrets", "Names only"), ("events", "healthy"),
        ("doctor", "qemu-img"),
    ):  # fmt: skip
        page.goto(f"{place}/#/{view}")
        expect(page.locator("main")).to_contain_text(words, timeout=60_000)
        check_accessibility(page)
        page.set_viewport_size({"width": 390, "height": 844})
        check_nothing_sticks_out(page)
        page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{place}/#/snapshots")
    page.get_by_role("button", name="Delete before-it-broke").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("row", name="before-it-broke")).to_have_count(0)

    # The keyboard alone: what the keys are, back to the list, into the row, and away with it.
    page.keyboard.press("?")
    expect(dialog).to_contain_text("Search in this view")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("v")
    expect(page.get_by_role("heading", name="VMs")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Search VMs")).to_be_focused()
    page.get_by_label("Search VMs").press("Tab")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete web").press("Enter")
    expect(page.get_by_role("link", name="web", exact=True)).to_have_count(0, timeout=60_000)
    assert "web" not in host.volar("vms", "list", "--output", "name").stdout
    assert page.evaluate("window.entered") is None, "a script of a guest or a label ran"
    assert [error for error in errors if "404" not in error] == []


def test_a_wrong_cookie_and_a_used_link_show_the_way_back(host: Host, context: BrowserContext) -> None:
    page, place, _ = sign_in(host, context)
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    used = host.volar("dashboard", "--no-open").stdout.strip()
    other = context.browser.new_context() if context.browser else context
    first = other.new_page()
    first.goto(used)
    expect(first.get_by_role("heading", name="VMs")).to_be_visible()
    other.clear_cookies()
    second = other.new_page()
    second.goto(used)
    expect(second.locator("main")).to_contain_text("this link was used already")
    other.add_cookies([{**cookie, "value": "x" * 43}])  # type: ignore[typeddict-item]  # playwright's two cookie types
    second.goto(f"{place}/")
    expect(second.get_by_role("heading", name="This browser is not signed in")).to_be_visible()
    expect(second.locator("main")).to_contain_text("volar dashboard")
    check_accessibility(second)
    other.close()


def test_the_first_load_is_small(host: Host, context: BrowserContext) -> None:
    """Everything that the browser asks for before the list is there, as gzip would send it."""
    bodies: dict[str, bytes] = {}

    def keep(reply: Response) -> None:
        if "/api/" not in reply.url:
            bodies.setdefault(reply.url, reply.body())

    context.on("response", keep)
    _, place, _ = sign_in(host, context)
    assert len(bodies) >= 4
    assert all(url.startswith(f"{place}/") for url in bodies), "something was loaded from elsewhere"
    assert sum(len(gzip.compress(body)) for body in bodies.values()) < FIRST_LOAD_BYTES
