# SPDX-License-Identifier: Apache-2.0
"""vm.json: what a VM is, in the VM's own folder, so that its disk outlives the database.

The file holds the VM's private keys and environment, as the database does: mode 0600. What a VM does (its state, its
process) is not in it; the spec of its last start is, by which a process that still runs is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from volant.errors import InvalidInput
from volant.volantd.hypervisors.base import HypervisorKind, ProcessIdentity, VmSpec
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.record import AgentFacts, VmDefinition, VmRecord
from volant.volantd.vms.states import VmState
from volant.whole_file import write_whole_file

NAME = "vm.json"
SHARED_FIELDS = (
    "id", "name", "plugin_name", "plugin_version", "definition", "address", "mac", "ports", "control_key", "host_key",
    "hypervisor", "spec", "created_at",
)  # fmt: skip


class VmFile(BaseModel):
    """`plugin_row` is the plugin's row as the plugin store exports it."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    schema_version: Literal[1, 2, 3] = 3
    id: str
    name: str
    plugin_name: str
    plugin_version: str
    plugin_row: dict[str, str | int]
    definition: VmDefinition
    address: str | None
    mac: str
    ports: tuple[PublishedPort, ...]
    control_key: str
    host_key: str
    hypervisor: HypervisorKind = "qemu"
    spec: VmSpec | None
    created_at: str

    @field_validator("spec", mode="before")
    @classmethod
    def _name_socket_folder(cls, spec: Any) -> Any:
        """Version 1 named each socket of QEMU; all of them were in one folder."""
        if isinstance(spec, dict) and "qmp_socket" in spec:
            return {**spec, "socket_folder": str(Path(spec["qmp_socket"]).parent)}
        return spec

    @model_validator(mode="before")
    @classmethod
    def _read_old_policy(cls, content: Any) -> Any:
        """Before version 3 "always" meant no more than: after a reboot of the host."""
        if isinstance(content, dict) and content.get("schema_version") in (1, 2):
            definition = content.get("definition")
            if isinstance(definition, dict) and definition.get("restart") == "always":
                return {**content, "definition": {**definition, "restart": "on-failure"}}
        return content

    def make_record(self, process: ProcessIdentity | None) -> VmRecord:
        """The VM as it is to be found again: with a process it is to be adopted, without it is stopped."""
        return VmRecord(
            **{name: getattr(self, name) for name in SHARED_FIELDS},
            state=VmState.RUNNING if process else VmState.STOPPED,
            reason="" if process else "imported from its folder",
            wanted=process is not None,
            process=process,
            agent=AgentFacts(),
            guest=None,
            last_lines=(),
            exit_code=None,
            started_at=None,
            deleting=False,
            restarts=0,
            pending=(),
        )


def write_vm_file(folder: Path, record: VmRecord, plugin_row: dict[str, str | int]) -> None:
    """Write what has changed; a folder that is missing is made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shared = {name: getattr(record, name) for name in SHARED_FIELDS}
    content = VmFile(plugin_row=plugin_row, **shared).model_dump_json()
    path = folder / NAME
    try:
        if path.read_text() == content:
            return
    except (OSError, ValueError):
        pass  # missing, or none of ours any more
    write_whole_file(path, content.encode(), mode=0o600)


def read_vm_file(folder: Path) -> VmFile:
    """InvalidInput where there is none that can be read."""
    path = folder / NAME
    try:
        return VmFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidInput(f"cannot read {path}: it does not describe a VM", details=str(error)) from error
