# SPDX-License-Identifier: Apache-2.0
"""Objects as YAML that means the same to every reader: to Go's, as in YAML 1.1, `yes` and `1_000` are no text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
# https://yaml.org/type/bool.html and null.html
_TAKEN = frozenset(["y", "n", "yes", "no", "true", "false", "on", "off", "null"])


def write_documents(objects: Iterable[Any]) -> str:
    yaml = YAML()
    yaml.explicit_start = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    for document in objects:
        yaml.dump(_quote(document), stream)
    return stream.getvalue()


def _quote(value: Any) -> Any:
    if isinstance(value, dict):
        return {_quote(key): _quote(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quote(item) for item in value]
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _TAKEN):
        return DoubleQuotedScalarString(value)
    return value
