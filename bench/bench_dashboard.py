# SPDX-License-Identifier: Apache-2.0
"""The dashboard in Chromium, served by a real daemon whose guests are the tests' fake ones: no VM's cost is in it.

dashboard-first-load-kb   all that the browser asks for before the list is there, as gzip sends it
dashboard-list-1000-ms    the last byte of a list of 1,000 VMs to its rows on the screen
dashboard-build-s         the bundle from nothing, npm's packages with it, as `make demo` pays for it
dashboard-daemon-kib      what volantd's memory grows by meanwhile
console-mb-per-s          a shell's output through SSH, the daemon's WebSocket with acknowledged flow control, and
                          xterm.js; every byte of 100 MB arrives, or the bench fails
"""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import hatch_build
from playwright.sync_api import Browser, Page, Response, sync_playwright

from bench.bench_daemon import ROOT, Daemon, add_rows, install_plugin, start_daemon
from bench.results import note, ratio

CHROMIUM = "/usr/bin/chromium"
ROUNDS = int(os.environ.get("BENCH_DASHBOARD_ROUNDS", "9"))
VMS = 1000
FLOOD_BYTES = 100_000_000
PATIENCE_SECONDS = 300
# Marks the first frame after rows were put into the page: two callbacks later it has been painted.
WATCH = """
new MutationObserver((changes, observer) => {
  if (!document.querySelector("tr[data-row]")) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.shownAt = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
LIST_MS = """
() => {
  const list = performance.getEntriesByType("resource").filter((one) => new URL(one.name).pathname === "/api/v1/vms");
  return window.shownAt - Math.max(...list.map((one) => one.responseEnd));
}
"""


def wait_for(page: Page, expression: str) -> None:
    """Playwright's own waiting compiles text in the page, which its policy refuses."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)


def open_page(daemon: Daemon, browser: Browser, watched: list[Response] | None = None) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    context.add_init_script(WATCH)
    page = context.new_page()
    if watched is not None:
        page.on("response", lambda reply: watched.append(reply))
    page.goto(daemon.call("POST", "/dashboard/links")["url"])
    wait_for(page, "window.shownAt")
    return page


def measure_first_load(daemon: Daemon, browser: Browser) -> float:
    replies: list[Response] = []
    page = open_page(daemon, browser, replies)
    files = [reply for reply in replies if reply.request.method == "GET" and "/api/" not in reply.url]
    assert len(files) >= 4, files
    total = sum(len(gzip.compress(reply.body())) for reply in files)
    page.context.close()
    return total / 1000


def measure_list(daemon: Daemon, browser: Browser) -> float:
    times = []
    for number in range(ROUNDS + 1):
        page = open_page(daemon, browser)
        found: Any = page.evaluate(LIST_MS)
        if number:  # the first fills caches
            times.append(float(found))
        page.context.close()
    return statistics.median(times)


def measure_console(daemon: Daemon, browser: Browser) -> float:
    """Megabytes a second, from the command to the last byte that the terminal has dealt with."""
    page = open_page(daemon, browser)
    page.goto(f"{page.url.partition('#')[0]}#/vms/talker/shell")
    page.locator(".xterm-rows", has_text="$").wait_for()
    page.locator(".xterm").click()
    page.keyboard.type(f"flood {FLOOD_BYTES}")
    began = time.perf_counter()
    page.keyboard.press("Enter")
    wait_for(page, f"Number(document.querySelector('.screen').dataset.receivedBytes) > {FLOOD_BYTES}")
    seconds = time.perf_counter() - began
    page.locator(".xterm-rows", has_text="all told").wait_for()
    shown = page.locator(".xterm-rows").inner_text()
    assert f"{FLOOD_BYTES // 100 - 1:098d}" in shown, shown
    beside = int(page.locator(".screen").get_attribute("data-received-bytes") or 0) - FLOOD_BYTES
    assert 0 < beside < 100, f"{beside} bytes beside those of the flood"
    page.context.close()
    return FLOOD_BYTES / 1e6 / seconds


def measure_build() -> float:
    """Seconds, in a folder that has the sources and nothing else."""
    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        shutil.copytree(
            ROOT / "dashboard", Path(name, "dashboard"), ignore=shutil.ignore_patterns("node_modules")
        )
        began = time.perf_counter()
        hatch_build.build_dashboard(Path(name))
        return time.perf_counter() - began


def main() -> None:
    ratio("dashboard-build-s", measure_build(), 1)
    with start_daemon() as daemon, sync_playwright() as playwright:
        install_plugin(daemon)
        add_rows(daemon, VMS)
        # Chromium's own sandbox refuses root.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        open_page(daemon, browser).context.close()
        before_kib = daemon.rss_kib()
        ratio("dashboard-first-load-kb", measure_first_load(daemon, browser), 0)
        ratio("dashboard-list-1000-ms", measure_list(daemon, browser), 0)
        ratio("dashboard-daemon-kib", daemon.rss_kib() - before_kib, 0)
        daemon.create("talker")
        ratio("console-mb-per-s", measure_console(daemon, browser), 1)
        note("chromium", int(browser.version.partition(".")[0]))
        browser.close()
