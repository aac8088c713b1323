# SPDX-License-Identifier: Apache-2.0
"""What clients may send: checks that every request's texts pass, and types for values that have a form.

A zero byte ends a C string in the middle, and half of a surrogate pair cannot be written to any file or reply: neither
is text that anything behind the API could use, so no model of a request takes them anywhere.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from volant.contract.egress import check_egress
from volant.contract.json_kinds import find_wrong_kinds
from volant.contract.kernel_arguments import check_kernel_arguments
from volant.contract.names import NAME_PATTERN

# The largest that a cloud's metadata service hands on (Compute Engine's 256 KiB; EC2 takes 16, OpenStack 64).
MOST_USER_DATA_BYTES = 256 * 1024
MOST_SECONDS = 86_400
MOST_PROBLEMS = 20
MOST_IDLE_SECONDS = 31_536_000
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+")


class ApiModel(BaseModel):
    """What the API answers, and what stands in requests."""

    model_config = ConfigDict(defer_build=True, extra="forbid")


class RequestModel(BaseModel):
    """Base of what clients send: no unknown keys, no text that is none, no true in place of 1."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_none(cls, data: Any) -> Any:
        waiting = [data]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str):
                check_text(value)
        if isinstance(data, dict) and (wrong := list(islice(find_wrong_kinds(cls, data), MOST_PROBLEMS))):
            raise ValueError("; ".join(wrong))
        return data


def check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"{value[:40]!r} holds a zero byte")
    if not is_encodable(value):
        raise ValueError(f"{value[:40]!r} is no Unicode text: half of a surrogate pair")
    return value


def is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except ValueError as error:  # binascii.Error is one, and so is what letters outside of ASCII raise
        raise ValueError("is no base64") from error
    return value


def check_user_data(value: str) -> str:
    if len(base64.b64decode(check_base64(value), validate=True)) > MOST_USER_DATA_BYTES:
        raise ValueError(f"is larger than {MOST_USER_DATA_BYTES >> 10} KiB, the most that clouds hand on")
    return value


def check_host_address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no IP address") from error
    if "%" in value:
        raise ValueError(f"{value!r} names an interface: give an address alone")
    return value


def check_public_key(value: str) -> str:
    """One line of authorized_keys(5), options allowed; its blob must be of the type that it says (RFC 4253, 6.6)."""
    line = value.strip()
    words = line.split()
    place = next((index for index, word in enumerate(words) if _KEY_TYPE.fullmatch(word)), None)
    if "\n" in line or "\r" in line or place is None or place + 1 == len(words):
        raise ValueError(f"{line[:40]!r} is no SSH public key: give one line as in id_ed25519.pub")
    kind = words[place].encode()
    try:
        blob = base64.b64decode(words[place + 1], validate=True)
    except ValueError as error:
        raise ValueError(f"{line[:40]!r} is no SSH public key: its second part is no base64") from error
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind) or len(blob) < len(kind) + 4 + 32:
        raise ValueError(f"{line[:40]!r} is no SSH public key: its second part is not of type {words[place]}")
    return line


Base64Text = Annotated[str, AfterValidator(check_base64)]
UserData = Annotated[str, AfterValidator(check_user_data)]
HostAddress = Annotated[str, AfterValidator(check_host_address)]
PublicKey = Annotated[str, Field(max_length=16_384), AfterValidator(check_public_key)]
EgressText = Annotated[str, Field(max_length=20_000), AfterValidator(check_egress)]
NetworkName = Annotated[str, Field(pattern=NAME_PATTERN)]
KernelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}$")]
KernelArguments = Annotated[str, AfterValidator(check_kernel_arguments)]
Seconds = Annotated[float, Field(le=MOST_SECONDS, allow_inf_nan=False)]
HostPort = Annotated[int, Field(ge=0, le=65_535)]
UserId = Annotated[int, Field(ge=0, le=0xFFFF_FFFE)]
