# SPDX-License-Identifier: Apache-2.0
"""docs/reference/api.md and manifest.md: what openapi.json and manifest.schema.json say, as tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
Row = tuple[str, ...]
TYPES_HEADING = "## Types"
FIELD_HEADINGS = ("key", "type", "default", "meaning")


def make_api_page(openapi: str) -> str:
    document = json.loads(openapi)
    parts = [API_HEAD]
    for area, requests in group_requests(document["paths"]).items():
        parts += [f"## {area}", make_table(("request", "what it does", "query", "body", "reply"), requests)]
    types = document["components"]["schemas"]
    parts += [
        TYPES_HEADING,
        "Fields without a default are always there in replies, and required in requests.",
    ]
    for name in sorted(types):
        parts += list(describe_type(name, types[name], "### "))
    return "\n\n".join(parts) + "\n"


def make_manifest_page(schema: str) -> str:
    document = json.loads(schema)
    parts = [MANIFEST_HEAD, make_table(FIELD_HEADINGS, list_fields(document))]
    for name, found in document["$defs"].items():
        parts += list(describe_type(name, found, "## "))
    return "\n\n".join(parts) + "\n"


def describe_type(name: str, schema: Schema, heading: str) -> Iterator[str]:
    yield f"{heading}{name}"
    if text := " ".join(schema.get("description", "").split()):
        yield text
    if rows := list(list_fields(schema)):
        yield make_table(FIELD_HEADINGS, rows)
    elif "enum" in schema:
        yield name_type(schema)


def list_fields(schema: Schema) -> Iterator[Row]:
    """Those that must be given first."""
    required = set(schema.get("required", ()))
    fields = schema.get("properties", {})
    for name in sorted(fields, key=lambda field: (field not in required, field)):
        field = fields[name]
        yield (
            f"`{name}`",
            name_type(field),
            show_default(field, name in required),
            field.get("description", ""),
        )


def show_default(field: Schema, is_required: bool) -> str:
    if is_required:
        return "required"
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`" if field.get("default") is not None else ""


def name_type(schema: Schema) -> str:
    """In words, with links to types that have tables of their own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(name_type(choice) for choice in schema[key]))
    if schema.get("type") == "array":
        return f"list of {name_type(schema['items'])}" if schema.get("items") else "list"
    if schema.get("type") == "object":
        below = schema.get("additionalProperties")
        return f"names with {name_type(below)}" if isinstance(below, Mapping) and below else "object"
    return str(schema.get("type", "anything"))


def group_requests(paths: Mapping[str, Mapping[str, Schema]]) -> dict[str, list[Row]]:
    """By the first word of their path; those outside of /api/v1 together."""
    found: dict[str, list[Row]] = {}
    for path, operations in sorted(paths.items()):
        is_outside = not path.startswith("/api/v1/")
        area = "Outside of /api/v1" if is_outside else path.split("/")[3]
        shown = path if is_outside else path.removeprefix("/api/v1")
        for method, operation in operations.items():
            request = f"`{method.upper()} {shown}`"
            meaning = " ".join((operation.get("description") or operation["summary"]).split())
            body = operation.get("requestBody", {})
            row = (request, meaning, list_query(operation), name_content(body), name_reply(operation))
            found.setdefault(area, []).append(row)
    return found


def list_query(operation: Schema) -> str:
    parameters = operation.get("parameters", ())
    return ", ".join(f"`{one['name']}`" for one in parameters if one["in"] == "query")


def name_reply(operation: Schema) -> str:
    """Of success: failures are alike everywhere."""
    statuses = {status: reply for status, reply in operation["responses"].items() if status < "4"}
    named = [f"{status} {name_content(reply)}".strip() for status, reply in statuses.items()]
    return ", ".join(named)


def name_content(holder: Schema) -> str:
    kinds = holder.get("content", {})
    named = [
        name_type(content["schema"]) if content.get("schema") else f"`{kind}`"
        for kind, content in kinds.items()
    ]
    return " or ".join(dict.fromkeys(named))


def make_table(headings: Row, rows: Any) -> str:
    lines = [headings, ("---",) * len(headings), *(tuple(map(escape, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


API_HEAD = """\
# API

Generated by `make reference` from [openapi.json](openapi.json), which programs read. Paths are below `/api/v1`, on
volantd's UNIX socket (`volar daemon status` names it), and on TCP with a [token](../how-to/let-programs-in.md).
[Streams](streams.md) are WebSockets.

<!-- not typed: where the socket is depends on the user -->
```sh
curl --unix-socket "$XDG_RUNTIME_DIR/volant/volantd.sock" http://localhost/api/v1/vms
```

A failure has the status of its [error](exit-codes.md) and the body [ErrorReply](#errorreply)."""

MANIFEST_HEAD = """\
# manifest.json

Generated by `make reference` from [the schema](manifest.schema.json). fledge writes the manifest of a plugin; its
runtime half comes from `[plugin.manifest]` of [fledge.toml](fledge-toml.md), with the same keys. A plugin that is
made by hand needs `name`, `version` and a disk or an initramfs:

```json
{"schema_version": "1.0", "name": "web", "version": "1.0.0", "rootfs": {"path": "rootfs.qcow2", "format": "qcow2"}}
```"""
