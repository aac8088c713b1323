# SPDX-License-Identifier: Apache-2.0
"""Each request has an id, each change two lines in the audit log, and each answer is counted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from volant.errors import Conflict
from volant.volantd.api.access import Gate
from volant.volantd.api.errors import install_translator
from volant.volantd.api.journal import Auditor, Journal, choose_id
from volant.volantd.api.metrics import RequestMetrics
from volant.volantd.audit import AuditLog
from volant.volantd.request_context import note_target

TOKEN = "s3cret"


def make_application() -> FastAPI:
    application = FastAPI()
    install_translator(application)

    @application.get("/vms/{name}", tags=["vms"])
    async def get(name: str) -> dict[str, str]:
        return {"name": name}

    @application.post("/vms", tags=["vms"], status_code=201)
    async def create() -> None:
        note_target("made")

    @application.delete("/vms/{name}", tags=["vms"])
    async def delete(name: str) -> None:
        raise Conflict(f"cannot delete VM {name}: it is in use")

    @application.post("/vms/{name}/crash", tags=["vms"])
    async def crash(name: str) -> None:
        raise RuntimeError("unforeseen")

    return application


class Asked:
    """The application behind both wrappers, and what they wrote down."""

    def __init__(self, folder: Path) -> None:
        self.audit = AuditLog(folder / "audit.log")
        self.registry = CollectorRegistry()
        inside = Auditor(make_application(), self.audit)
        self.application = Journal(Gate(inside, TOKEN), RequestMetrics(self.registry))

    async def __call__(
        self, method: str, path: str, token: str = TOKEN, **headers: str
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        given = {"host": "localhost", "authorization": f"Bearer {token}", **headers}
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
        scope: dict[str, Any] = {
            "type": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": raw,
            "method": method, "root_path": "", "scheme": "http", "http_version": "1.1", "server": None,
        }  # fmt: skip
        try:
            await self.application(scope, receive, send)
        except RuntimeError:
            assert path.endswith("/crash")
        body = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], dict(sent[0]["headers"]), body


@pytest.fixture
def ask(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


async def test_the_id_that_a_client_gave_comes_back_with_errors_too(ask: Asked) -> None:
    _, headers, _ = await ask("GET", "/vms/web", x_request_id="build-7")
    assert headers[b"x-request-id"] == b"build-7"
    status, headers, body = await ask("DELETE", "/vms/web", x_request_id="build-8")
    assert (status, headers[b"x-request-id"]) == (409, b"build-8")
    assert b'"request_id":"build-8"' in body


async def test_who_is_not_let_in_has_an_id_and_no_line_in_the_audit_log(ask: Asked) -> None:
    status, headers, body = await ask("POST", "/vms", token="wrong")
    assert status == 401
    assert headers[b"x-request-id"] in body
    assert ask.audit.read(10) == []


@pytest.mark.parametrize("given", [b"", b"a b", b"a\r\nb", b"x" * 65, "é".encode(), b"\xff"])
def test_what_does_not_fit_into_a_line_is_replaced(given: bytes) -> None:
    chosen = choose_id([(b"x-request-id", given)])
    assert len(chosen) == 16
    assert chosen != choose_id([])


async def test_a_change_is_audited_with_who_what_and_its_result(ask: Asked) -> None:
    await ask("GET", "/vms/web")
    await ask("POST", "/vms", x_request_id="a")
    await ask("DELETE", "/vms/web", x_request_id="b")
    await ask("POST", "/vms/web/crash", x_request_id="c")
    await ask("PUT", "/nothing/here", x_request_id="d")
    who = "the daemon's token"
    assert [
        (entry.request_id, entry.who, entry.action, entry.target, entry.status, entry.error)
        for entry in ask.audit.read(10)
    ] == [
        ("a", who, "vms_create", "made", 201, ""),
        ("b", who, "vms_delete", "web", 409, "conflict"),
        ("c", who, "vms_crash", "web", 500, "internal"),
        ("d", who, "PUT /nothing/here", "", 404, "not_found"),
    ]


async def test_what_a_workload_is_asked_is_not_audited(ask: Asked) -> None:
    await ask("POST", "/api/v1/vms/web/proxy/orders")
    assert ask.audit.read(10) == []
    await ask("POST", "/api/v1/vms/web/proxy2")
    assert len(ask.audit.read(10)) == 1


async def test_a_kill_in_the_middle_leaves_the_line_that_it_was_asked_for(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        (entry,) = AuditLog(tmp_path / "audit.log").read(10)
        assert (entry.status, entry.action) == (0, "POST /vms")

    journal = Journal(Auditor(look, audit), RequestMetrics(CollectorRegistry()))
    await journal({"type": "http", "method": "POST", "path": "/vms", "headers": []}, None, None)  # type: ignore[arg-type]


async def test_answers_are_counted_by_route_never_by_name(ask: Asked) -> None:
    for number in range(20):
        await ask("GET", f"/vms/web-{number}")
    await ask("GET", "/nothing")
    await ask("BREW", "/vms/web")
    count = ask.registry.get_sample_value
    labels = {"method": "GET", "route": "/vms/{name}", "status": "2xx"}
    assert count("volant_api_requests_total", labels) == 20
    assert count("volant_api_requests_total", {"method": "GET", "route": "none", "status": "4xx"}) == 1
    assert count("volant_api_request_seconds_count", {"method": "GET", "route": "/vms/{name}"}) == 20
    assert count("volant_api_requests_open") == 0
    names = {
        label
        for metric in ask.registry.collect()
        for sample in metric.samples
        for label in sample.labels.values()
    }
    assert not any("web" in name or "BREW" in name for name in names)


async def test_a_fault_of_ours_is_a_line_with_the_path(ask: Asked, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await ask("POST", "/vms/web/crash")
    assert "POST /vms/web/crash by the daemon's token: 500" in caplog.text
