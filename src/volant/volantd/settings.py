# SPDX-License-Identifier: Apache-2.0
"""The daemon's settings: one frozen value, read from the environment here and nowhere else."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from volant.contract.paths import find_runtime_dir, find_state_dir
from volant.contract.places import SOCKET_NAME
from volant.digits import is_whole_number
from volant.errors import InvalidInput
from volant.volantd.log_format import LogFormat

# Names under VOLANT_ that belong to volar, fledge or the build.
FOREIGN_NAMES = frozenset({"API_BASE", "CONTEXT", "GO", "HOME", "NO_AUTOSTART"})


class Settings(BaseModel):
    """`listen` is None or HOST:PORT on loopback; `token` is what TCP clients must show (made when missing)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path
    runtime_dir: Path
    listen: str | None = Field(
        None, description="`HOST:PORT` on loopback where the API answers too, to who shows a token"
    )
    token: str | None = Field(
        None,
        description="what TCP clients show; the daemon makes one in `token` of its state folder where none is set",
    )
    socket_group: str | None = Field(None, description="a group whose members may use the socket")
    kernel: Path | None = Field(
        None,
        description="a kernel image or the folder of an unpacked package, in place of the one that "
        "`volar setup kernel` fetched",
    )
    accelerator: Literal["auto", "kvm", "tcg"] = Field(
        "auto", description="what runs guests; auto: KVM where a guest boots with it, else emulation"
    )
    host_loopback: Literal["closed", "open"] = Field(
        "closed",
        description="whether guests reach the host's own services: in user mode those on 127.0.0.1, at 10.0.2.2; "
        "on the bridge all that listen on its addresses",
    )
    warm_start: Literal["on", "off"] = Field(
        "on",
        description="whether VMs wake from templates, the memory of guests that were no VMs yet, or boot each",
    )
    kubernetes: Path | None = Field(
        None,
        description="a kubeconfig with a node's rights: this host is a node of that cluster, and its pods are VMs",
    )
    shared_network: Literal["on", "named", "off"] = Field(
        "named",
        description="which VMs in user mode are on one network, where they see each other: all, those that are "
        "given networks or aliases by name, or none; the others have one each",
    )
    requests_per_second: int = Field(
        100,
        ge=0,
        description="of each token and each other user of the socket; five times as many at once, 0: no limit",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe messages that the daemon logs"
    )
    log_format: LogFormat = Field(
        "auto",
        description="form of the daemon's own lines; auto: the journal's where systemd reads them, else text",
    )
    log_limit_bytes: int = Field(
        8 * 1024 * 1024, ge=4096, description="bytes kept of each VM's process logs, per half"
    )

    @field_validator("listen")
    @classmethod
    def _loopback_only(cls, value: str | None) -> str | None:
        if value is None:
            return None
        host, separator, port = value.rpartition(":")
        if not separator or not is_whole_number(port) or int(port) > 65535:
            raise ValueError(f"{value!r} is not HOST:PORT")
        if host != "localhost" and not ipaddress.ip_address(host.strip("[]")).is_loopback:
            raise ValueError(f"{host} is not a loopback address; publish the API with a proxy that has TLS")
        return value

    @property
    def socket(self) -> Path:
        return self.runtime_dir / SOCKET_NAME

    @property
    def database(self) -> Path:
        return self.state_dir / "volant.db"

    @property
    def audit(self) -> Path:
        return self.state_dir / "audit.log"

    @property
    def reserve(self) -> Path:
        return self.state_dir / "reserve"

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    @property
    def kernels_dir(self) -> Path:
        return self.cache_dir / "kernels"

    @property
    def bridge_mark(self) -> Path:
        """Exists once a person has agreed to the bridge."""
        return self.state_dir / "bridged"

    @property
    def vms_dir(self) -> Path:
        return self.state_dir / "vms"


def read_settings(environment: Mapping[str, str] = os.environ, **overrides: object) -> Settings:
    """Settings from VOLANT_* variables; overrides (command line options) win. All problems are told at once."""
    values: dict[str, object] = {
        name.removeprefix("VOLANT_").lower(): value
        for name, value in environment.items()
        if name.startswith("VOLANT_") and name.removeprefix("VOLANT_") not in FOREIGN_NAMES and value
    }
    values["state_dir"] = find_state_dir(environment).absolute()
    values["runtime_dir"] = find_runtime_dir(environment).absolute()
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            f"VOLANT_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise InvalidInput(
            "cannot start volantd: its settings are wrong",
            details=problems,
            resolution="correct these variables",
        ) from error
