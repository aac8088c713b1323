# SPDX-License-Identifier: Apache-2.0
"""`.env` and `env_file`: NAME=VALUE a line, with quotes, comments and variables, as Compose reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from volant.errors import InvalidInput, NotFound
from volant.volar.compose.interpolation import Interpolation

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=|:|$)[ \t]*", re.MULTILINE)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}
MOST_BYTES = 1 << 20


def read_env_file(path: Path, outer: Mapping[str, str], *, is_raw: bool = False) -> dict[str, str | None]:
    """Names with their values; None for a name alone, whose value is to come from outside.

    `outer`: what variables in values may name, before those of the file itself. `is_raw`: nothing is unquoted or
    filled in. Raises NotFound, InvalidInput.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise NotFound(f"cannot read {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error
    if len(content) > MOST_BYTES or "\0" in text:
        raise InvalidInput(f"cannot read {path}: it is not a file of variables")
    return _read_raw(text) if is_raw else parse_env(text, outer, str(path))


def _read_raw(text: str) -> dict[str, str | None]:
    lines = [line.lstrip() for line in text.split("\n")]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value if sign else None for name, sign, value in pairs}


def parse_env(text: str, outer: Mapping[str, str], place: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].strip()
        if not line or line.startswith("#"):
            position = end + 1
            continue
        match = _LINE.match(text, position, end)
        where = f"{place}:{text.count(chr(10), 0, position) + 1}"
        if match is None:
            raise InvalidInput(f"cannot read {where}: {line[:60]!r} is not NAME=VALUE")
        if not match[2]:
            found[match[1]] = None
            position = end + 1
            continue
        known = {**{name: value for name, value in found.items() if value is not None}, **outer}
        found[match[1]], position = _read_value(text, match.end(), end, known, where)
    return found


def _read_value(text: str, start: int, end: int, known: Mapping[str, str], where: str) -> tuple[str, int]:
    """The value that begins at `start`, and where the next line does."""
    quote = text[start : start + 1]
    fill = Interpolation(known).fill
    if quote not in ("'", '"') or start >= end:
        value = re.split(r"(?:^|[ \t])#", text[start:end], maxsplit=1)[0].strip()
        return fill(value, where), end + 1
    index, body = start + 1, []
    while index < len(text) and text[index] != quote:
        if text[index] == "\\" and index + 1 < len(text):
            following = text[index + 1]
            escaped = _ESCAPES.get(following, f"\\{following}") if quote == '"' else f"\\{following}"
            body.append("'" if quote == "'" and following == "'" else escaped)
            index += 2
        else:
            body.append(text[index])
            index += 1
    if index >= len(text):
        raise InvalidInput(f"cannot read {where}: a quote is not closed")
    following_line = text.find("\n", index)
    following_line = len(text) if following_line < 0 else following_line
    rest = text[index + 1 : following_line].strip()
    if rest and not rest.startswith("#"):
        raise InvalidInput(f"cannot read {where}: {rest[:40]!r} follows the closing quote")
    value = "".join(body)
    return (value if quote == "'" else fill(value, where)), following_line + 1
