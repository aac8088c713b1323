# SPDX-License-Identifier: Apache-2.0
"""Every error that a person or a program may see.

An error answers three questions: what went wrong ("cannot <verb> <object>: <cause>"), the detail behind it (the
tail of a tool's output, a list of problems), and what to do about it. It owns its exit code and its API code, so
entry points and the HTTP translator need no table of their own.

    VolantError                 exit  1   500 internal
    ├── UsageError              exit  2   400 bad_request       the command line or request is not valid
    ├── InvalidInput            exit  3   422 invalid_input     a file or value that was given is wrong
    │   └── TooLarge            exit  3   413 too_large         more than is taken at once
    ├── NotFound                exit  4   404 not_found
    ├── Conflict                exit  5   409 conflict          name taken, or in use
    │   └── WrongState          exit  5   409 wrong_state       the VM is not in the state that this needs
    ├── NotPermitted            exit  6   403 forbidden
    │   └── Unauthorized        exit  6   401 unauthorized
    ├── TooManyRequests         exit 12   429 too_many_requests this client asks too often
    ├── ToolMissing             exit  7   500 tool_missing      a program, kernel or builder is not on this host
    ├── ToolFailed              exit  8   500 tool_failed       a program was run and failed
    ├── StorageFull             exit  9   507 storage_full
    ├── GuestFailed             exit 10   500 guest_failed      the VM did not boot or its workload failed
    ├── Unreachable             exit 11   502 unreachable       a daemon, guest or registry does not answer
    └── Interrupted             exit 130  500 interrupted       Ctrl-C; fledge: 143 SIGTERM, 129 SIGHUP
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # loaded by every call of a program
    from collections.abc import Sequence
    from typing import ClassVar


class VolantError(Exception):
    """Base of all errors that reach a user. `what` is one line; `details` more lines; `resolution` the next step."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    meaning: ClassVar[str] = "anything else: a defect of ours; please report it"

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
    meaning = "the command line or the request is not valid"


class InvalidInput(VolantError):
    exit_code = 3
    http_status = 422
    code = "invalid_input"
    meaning = "a file or value that was given is wrong"


class TooLarge(InvalidInput):
    http_status = 413
    code = "too_large"


class NotFound(VolantError):
    exit_code = 4
    http_status = 404
    code = "not_found"
    meaning = "what was named is not there"


class Conflict(VolantError):
    exit_code = 5
    http_status = 409
    code = "conflict"
    meaning = "the name is taken, or the thing is in use"


class WrongState(Conflict):
    code = "wrong_state"
    meaning = "the VM is not in the state that this needs"


class NotPermitted(VolantError):
    exit_code = 6
    http_status = 403
    code = "forbidden"
    meaning = "not allowed"


class Unauthorized(NotPermitted):
    http_status = 401
    code = "unauthorized"
    meaning = "the token is missing or wrong"


class TooManyRequests(VolantError):
    exit_code = 12
    http_status = 429
    code = "too_many_requests"
    meaning = "this client asks the daemon too often"

    def __init__(
        self,
        what: str,
        *,
        details: str | Sequence[str] = (),
        resolution: str = "",
        retry_after_seconds: int = 1,
    ) -> None:
        super().__init__(
            what, details=details, resolution=resolution or f"ask again in {retry_after_seconds} s"
        )
        self.retry_after_seconds = retry_after_seconds


class ToolMissing(VolantError):
    exit_code = 7
    code = "tool_missing"
    meaning = "a program, a kernel or a builder is not on this host"


class ToolFailed(VolantError):
    exit_code = 8
    code = "tool_failed"
    meaning = "a program was run and failed"


class StorageFull(VolantError):
    exit_code = 9
    http_status = 507
    code = "storage_full"
    meaning = "a disk is full"


class GuestFailed(VolantError):
    exit_code = 10
    code = "guest_failed"
    meaning = "the VM did not boot, or its workload failed"


class Unreachable(VolantError):
    exit_code = 11
    http_status = 502
    code = "unreachable"
    meaning = "a daemon, a guest or a registry does not answer"


class Interrupted(VolantError):
    exit_code = 130
    code = "interrupted"
    meaning = "ended by Ctrl-C or SIGTERM"
