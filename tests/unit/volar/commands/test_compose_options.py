# SPDX-License-Identifier: Apache-2.0
"""Options and words that fingers know from docker compose."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from support.host import wait_until
from support.in_process_daemon import InProcessDaemon
from unit.volar.commands.conftest import Shop
from volant.volar.compose import files


def test_files_from_elsewhere(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.read_standard_input.cache_clear()

    class Input:
        buffer = io.BytesIO(b"services: {a: {image: part, volumes: ['./data:/data']}}")

    monkeypatch.setattr("sys.stdin", Input)
    shown = shop("-f", "-", "-p", "given", "config")
    assert shown.exit_code == 0, shown.err
    assert shown.out.startswith("name: given\n")
    assert str(tmp_path / "data") in shown.out, "paths start from here"
    files.read_standard_input.cache_clear()
    (tmp_path / "other.yaml").write_text("services: {b: {image: 'part:${TAG:-none}'}}")
    (tmp_path / "vars").write_text("TAG=1.0.0\n")
    monkeypatch.setenv("COMPOSE_FILE", "compose.yaml:other.yaml")
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "named")
    shown = shop("--env-file", "vars", "config")
    assert shown.out.startswith("name: named\n")
    assert "image: part:1.0.0" in shown.out
    assert shop("config", "--services").out.split() == ["web", "db", "b"]


def test_words_of_docker_that_mean_something_else_here(shop: Shop) -> None:
    assert "volar compose up -d --scale" in shop("scale", "web=2").err
    assert shop("--ansi", "never", "--progress", "quiet", "ls").exit_code == 0
    refused = shop("up", "-d", "--abort-on-container-exit")
    assert (refused.exit_code, "leave out --detach" in refused.err) == (2, True)


def test_the_stack_ends_with_one_of_its_vms(shop: Shop, daemon: InProcessDaemon) -> None:
    assert "cannot find service nobody" in shop("up", "--exit-code-from", "nobody").err
    assert daemon.client.list_vms() == []

    def end_one() -> None:
        wait_until("both", lambda: [vm["status"] for vm in daemon.client.list_vms()] == ["running"] * 2)
        daemon.client.stop_vm("shop-db-1", force=True)

    thread = threading.Thread(target=end_one)
    thread.start()
    done = shop("up", "--abort-on-container-exit")
    thread.join()
    assert (done.exit_code, "shop-web-1: stopped" in done.err) == (0, True)
    assert "shop-web-1 | " in done.out


def test_config_says_what_up_refuses(shop: Shop, tmp_path: Path) -> None:
    sharing = "{image: part, volumes: ['site:/site']}"
    (tmp_path / "compose.yaml").write_text(f"services: {{a: {sharing}, b: {sharing}}}\nvolumes: {{site: }}")
    shown = shop("config")
    assert (shown.exit_code, "warning: up: cannot share volume" in shown.err) == (0, True)
    (tmp_path / "compose.yaml").write_text("services: {a: {image: part, depends_on: [a]}}")
    assert shop("config", "-q").exit_code == 3
