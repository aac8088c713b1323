# SPDX-License-Identifier: Apache-2.0
"""`${NAME}` in a compose file's values, with every operator of the Compose specification ("Interpolation")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volant.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
MOST_DEPTH = 20
# Aliases of YAML share what they name; written out, a file of some hundred bytes may be as large as memory.
MOST_VALUES = 200_000


@dataclass
class Interpolation:
    """One walk over a file. `unset` collects the names that nothing is known of, and which became empty."""

    variables: Mapping[str, str]
    unset: list[str] = field(default_factory=list)
    _values: int = 0

    def apply(self, tree: Any, place: str) -> Any:
        """The tree with its values filled in; keys stay. InvalidInput names the place, as in services.web.image."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise InvalidInput(f"cannot read {place}: the file has more than {MOST_VALUES} values")
        if isinstance(tree, dict):
            return {key: self.apply(value, f"{place}.{key}") for key, value in tree.items()}
        if isinstance(tree, list):
            return [self.apply(value, f"{place}[{number}]") for number, value in enumerate(tree)]
        return self.fill(tree, place) if isinstance(tree, str) else tree

    def fill(self, text: str, place: str, depth: int = 0) -> str:
        if depth > MOST_DEPTH:
            raise InvalidInput(f"cannot interpolate {place}: more than {MOST_DEPTH} levels")
        done, rest = [], text
        while "$" in rest:
            before, _, rest = rest.partition("$")
            done.append(before)
            if rest.startswith("$"):
                done.append("$")
                rest = rest[1:]
            elif rest.startswith("{"):
                inner, rest = _split_braces(rest[1:], text, place)
                done.append(self._expand(inner, text, place, depth))
            elif match := _NAME.match(rest):
                done.append(self._look_up(match[0]))
                rest = rest[match.end() :]
            else:
                done.append("$")  # as the specification has it: what is no variable stays
        return "".join([*done, rest])

    def _expand(self, inner: str, text: str, place: str, depth: int) -> str:
        match = _NAME.match(inner)
        operator = next((sign for sign in _OPERATORS if match and inner.startswith(sign, match.end())), "")
        if match is None or (not operator and match.end() < len(inner)):
            raise InvalidInput(
                f"cannot interpolate {place}: {text!r} has no variable in its ${{…}}",
                resolution="${NAME}, ${NAME:-default}, ${NAME:?message} or ${NAME:+other}; $$ for a dollar sign",
            )
        if not operator:
            return self._look_up(match[0])
        value = self.variables.get(match[0])
        word = inner[match.end() + len(operator) :]
        is_there = bool(value) if operator[0] == ":" else value is not None
        match operator[-1]:
            case "-":
                return (value or "") if is_there else self.fill(word, place, depth + 1)
            case "+":
                return self.fill(word, place, depth + 1) if is_there else ""
        if not is_there:
            why = self.fill(word, place, depth + 1) or "it is not set"
            raise InvalidInput(
                f"cannot interpolate {place}: variable {match[0]} is required: {why}",
                resolution=f"set {match[0]} in this shell or in .env",
            )
        return value or ""

    def _look_up(self, name: str) -> str:
        if name not in self.variables and name not in self.unset:
            self.unset.append(name)
        return self.variables.get(name, "")


def _split_braces(rest: str, text: str, place: str) -> tuple[str, str]:
    """What stands before the brace that closes `${`, and what comes after it."""
    depth, index = 1, 0
    while index < len(rest):
        if rest.startswith("$$", index):
            index += 2
            continue
        if rest.startswith("${", index):
            depth, index = depth + 1, index + 1
        elif rest[index] == "}":
            depth -= 1
            if depth == 0:
                return rest[:index], rest[index + 1 :]
        index += 1
    raise InvalidInput(f"cannot interpolate {place}: {text!r} lacks a closing brace")
