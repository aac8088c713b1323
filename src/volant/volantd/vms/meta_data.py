# SPDX-License-Identifier: Apache-2.0
"""A VM's NoCloud meta-data: what its plugin says, as this VM's own. The plugin's document is hostile input."""

from __future__ import annotations

from typing import Any

from volant.errors import InvalidInput
from volant.volantd.vms.record import VmRecord

MAX_BYTES = 1 << 16
MAX_DEPTH = 20


def make_meta_data(record: VmRecord, given: str) -> dict[str, Any]:
    """`given` (YAML) with this VM's instance id: every VM is an instance of its own. Raises InvalidInput."""
    try:
        document = _read_mapping(given) if given.strip() else {}
    except ValueError as error:
        raise InvalidInput(
            f"cannot use cloud_init.meta_data of plugin {record.plugin_name}: {error}",
            resolution="correct it in the plugin's manifest; it is a mapping in YAML or JSON",
        ) from error
    return {"local-hostname": record.name.replace("_", "-"), **document, "instance-id": record.id}


def _read_mapping(text: str) -> dict[str, Any]:
    # Imported where it is used: few plugins bring meta-data.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    if len(text) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} characters")
    try:
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):  # as it is read, before more of it is looked at
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if isinstance(event, AliasEvent) or depth > MAX_DEPTH:
                raise ValueError(f"it holds an alias, or is nested more than {MAX_DEPTH} deep")
        document = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ValueError("it is no mapping of names")
    return document
