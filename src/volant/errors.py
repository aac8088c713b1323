# SPDX-License-Identifier: Apache-2.0
"""Every error that a person or a program may see.

An error answers three questions: what went wrong ("cannot <verb> <object>: <cause>"), the detail behind it (the
tail of a tool's output, a list of problems), and what to do about it. It owns its exit code and its API code, so
entry points and the HTTP translator need no table of their own.

    VolantError                 exit  1   500 internal
    ├── UsageError              exit  2   400 bad_request       the command line or request makes no sense
    ├── InvalidInput            exit  3   422 invalid_input     a file or value that was given is wrong
    ├── NotFound                exit  4   404 not_found
    ├── Conflict                exit  5   409 conflict          name taken, in use, wrong state
    ├── NotPermitted            exit  6   403 forbidden
    │   └── Unauthorized        exit  6   401 unauthorized
    ├── ToolMissing             exit  7   500 tool_missing      a program, kernel or builder is not on this host
    ├── ToolFailed              exit  8   500 tool_failed       a program was run and failed
    ├── StorageFull             exit  9   507 storage_full
    ├── GuestFailed             exit 10   500 guest_failed      the VM did not boot or its workload failed
    ├── Unreachable             exit 11   502 unreachable       a daemon, guest or registry does not answer
    └── Interrupted             exit 130  500 interrupted       Ctrl-C, SIGTERM
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class VolantError(Exception):
    """Base of all errors that reach a user. `what` is one line; `details` more lines; `resolution` the next step."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, what: str, *, details: str | Sequence[str] = (), resolution: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.details = tuple(details.splitlines()) if isinstance(details, str) else tuple(details)
        self.resolution = resolution

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.details)]
        if self.resolution:
            lines.append(f"try: {self.resolution}")
        return "\n".join(lines)


class UsageError(VolantError):
    exit_code = 2
    http_status = 400
    code = "bad_request"


class InvalidInput(VolantError):
    exit_code = 3
    http_status = 422
    code = "invalid_input"


class NotFound(VolantError):
    exit_code = 4
    http_status = 404
    code = "not_found"


class Conflict(VolantError):
    exit_code = 5
    http_status = 409
    code = "conflict"


class NotPermitted(VolantError):
    exit_code = 6
    http_status = 403
    code = "forbidden"


class Unauthorized(NotPermitted):
    http_status = 401
    code = "unauthorized"


class ToolMissing(VolantError):
    exit_code = 7
    code = "tool_missing"


class ToolFailed(VolantError):
    exit_code = 8
    code = "tool_failed"


class StorageFull(VolantError):
    exit_code = 9
    http_status = 507
    code = "storage_full"


class GuestFailed(VolantError):
    exit_code = 10
    code = "guest_failed"


class Unreachable(VolantError):
    exit_code = 11
    http_status = 502
    code = "unreachable"


class Interrupted(VolantError):
    exit_code = 130
    code = "interrupted"
