# SPDX-License-Identifier: Apache-2.0
"""The request that is being answered: its id goes into log lines and errors, who asks into the audit log.

It belongs to the task that answers. What goes on after the reply is started by `outside_of_requests`.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class RequestContext:
    """`who` is "uid 1000" or "token NAME"; `target` names what is made where the path does not; `error` the code;
    `status` the reply's, 500 until it has one."""

    id: str
    who: str = ""
    target: str = ""
    error: str = ""
    status: int = 500


_CURRENT: contextvars.ContextVar[RequestContext | None] = contextvars.ContextVar("request", default=None)


def find_request() -> RequestContext | None:
    return _CURRENT.get()


def find_request_id() -> str:
    """Empty outside of requests."""
    request = _CURRENT.get()
    return "" if request is None else request.id


def find_who() -> str:
    """Who asks, or empty."""
    request = _CURRENT.get()
    return "" if request is None else request.who


def enter_request(request: RequestContext) -> None:
    """From here on this task answers `request`."""
    _CURRENT.set(request)


def note_target(name: str) -> None:
    """For the audit log: what the request that is being answered is about."""
    if (request := _CURRENT.get()) is not None:
        request.target = name


def outside_of_requests(
    start: Callable[_Parameters, _Result], *arguments: _Parameters.args, **options: _Parameters.kwargs
) -> _Result:
    """Call what starts tasks that live on: they are no part of the request that happened to start them."""
    return contextvars.Context().run(start, *arguments, **options)
