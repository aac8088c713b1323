# SPDX-License-Identifier: Apache-2.0
"""What a request may say of a VM's workload in place of what its image says, and files that are this VM's alone."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from volant.contract.request_values import Base64Text, RequestModel, Seconds, UserId

HOST_GATEWAY = "host-gateway"
MOST_FILES = 200
MOST_FILES_BYTES = 1 << 20
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
# The kernel's and the agent's own.
_KEPT_FOLDERS = ("/proc", "/sys", "/dev", "/run/kestrel")
_FREE_FOLDER = "/dev/shm"  # noqa: S108  # the guest's


def check_guest_file(value: str) -> str:
    normal = posixpath.normpath(value)
    if not value.startswith("/") or ".." in value.split("/") or normal.strip("/") == "":
        raise ValueError(f"{value!r} is no absolute path of a file below /")
    kept = any(normal == folder or normal.startswith(f"{folder}/") for folder in _KEPT_FOLDERS)
    if kept and normal != _FREE_FOLDER and not normal.startswith(f"{_FREE_FOLDER}/"):
        raise ValueError(f"{value!r}: the system needs that place itself")
    return normal


def check_host_name(value: str) -> str:
    if len(value) > 253 or not _HOST_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no host name")
    return value


def check_extra_hosts(hosts: dict[str, str]) -> dict[str, str]:
    for name, address in hosts.items():
        check_host_name(name)
        if address != HOST_GATEWAY:
            ipaddress.ip_address(address)
    return hosts


class HealthCheckRequest(RequestModel):
    """In place of every check that plugin and image bring. Times of null are Docker's: 30 s, three tries."""

    test: list[str] = Field(
        min_length=1,
        max_length=1000,
        description='["CMD", PROGRAM, …], ["CMD-SHELL", LINE], ["NONE"],'
        ' or ["OWN"]: those that plugin and image bring, but no connect to the port where they bring none',
    )
    interval_seconds: Seconds | None = Field(None, gt=0)
    timeout_seconds: Seconds | None = Field(None, gt=0)
    start_period_seconds: Seconds | None = Field(None, ge=0)
    retries: int | None = Field(None, ge=1, le=1000)

    @model_validator(mode="after")
    def _says_what_to_run(self) -> Self:
        lengths = {"NONE": (1, 1), "OWN": (1, 1), "CMD": (2, 1000), "CMD-SHELL": (2, 2)}
        least, most = lengths.get(self.test[0], (0, -1))
        if not least <= len(self.test) <= most:
            raise ValueError('test: give ["CMD", PROGRAM, …], ["CMD-SHELL", LINE], ["NONE"] or ["OWN"]')
        return self


class PlacedFile(RequestModel):
    """A file that is there before the workload starts, whose content the VM's disk never holds; or an empty folder."""

    path: Annotated[str, AfterValidator(check_guest_file)]
    kind: Literal["file", "folder", "memory"] = Field(
        "file",
        description="folder: an empty one of the VM's disk, in place of what the image has there; memory: one in RAM",
    )
    content_base64: Base64Text = ""
    secret: str | None = Field(None, description="in place of the content: the name of a secret")
    mode: int = Field(0o444, ge=0, le=0o7777)
    uid: UserId = 0
    gid: UserId = 0

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if self.secret is not None and self.content_base64:
            raise ValueError(f"{self.path}: give its content or a secret, not both")
        if self.kind != "file" and (self.secret is not None or self.content_base64):
            raise ValueError(f"{self.path}: an empty folder has no content")
        return self


class WorkloadRequest(RequestModel):
    """Part of what a VM is made with; empty and null leave it to the image."""

    working_dir: str = Field("", max_length=4096, description="in place of the image's WORKDIR")
    user: str = Field("", max_length=256, description="in place of the image's USER")
    groups: list[UserId] = Field(
        default_factory=list, max_length=64, description="supplementary groups, beside the user's own"
    )
    message_path: str = Field(
        "", max_length=4096, pattern=r"^(/[^\x00]*[^/\x00])?$",
        description="of a file that the image's command is offered for a last message, which its process then has",
    )  # fmt: skip
    hostname: str = Field("", max_length=253, description="in place of the VM's name")
    stdin: bool = Field(
        False,
        description="it has a standard input, to which /vms/{name}/attach joins people; else it reads nothing",
    )
    stdin_once: bool = Field(False, description="its input ends with the first who is joined to it")
    tty: bool = Field(False, description="all of its input and output is one terminal")
    stop_signal: str = Field(
        "", pattern=r"^((SIG)?[A-Z0-9+-]{1,20})?$", description="in place of the image's STOPSIGNAL"
    )
    stop_timeout_seconds: Seconds | None = Field(
        None, ge=0, description="what its processes are given to stop; null: 10"
    )
    health_check: HealthCheckRequest | None = None
    extra_hosts: Annotated[dict[str, str], AfterValidator(check_extra_hosts)] = Field(
        default_factory=dict,
        description="names with their addresses, for /etc/hosts; host-gateway: this host, as the VM sees it",
    )
    files: list[PlacedFile] = Field(default_factory=list, max_length=MOST_FILES)

    @model_validator(mode="after")
    def _names_are_names(self) -> Self:
        if self.hostname:
            check_host_name(self.hostname)
        return self

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        paths = [file.path for file in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError("files: one path is given twice")
        if sum(len(file.content_base64) for file in self.files) * 3 // 4 > MOST_FILES_BYTES:
            raise ValueError(f"files: they have more than {MOST_FILES_BYTES >> 10} KiB: attach a volume")
        return self
