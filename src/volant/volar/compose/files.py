# SPDX-License-Identifier: Apache-2.0
"""Compose files on the disk: where they are, and their YAML with Compose's two tags.

`!reset` removes a value of an earlier file and `!override` takes its place (Compose specification, "Merge").
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from volant.errors import InvalidInput, NotFound

USUAL_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = {
    name: tuple(f"{Path(name).stem}.override{suffix}" for suffix in (".yaml", ".yml")) for name in USUAL_NAMES
}
MOST_BYTES = 4 << 20
# What -f and COMPOSE_FILE call it, and messages.
STANDARD_INPUT, STANDARD_INPUT_PATH = "-", Path("/dev/stdin")
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Reset:
    """What an earlier file says here goes; `value` takes its place where there is one."""

    value: Any = None
    replaces: bool = False


@dataclass
class RawFile:
    """A file as YAML has it. `replaced`: places of which nothing of earlier files stays."""

    path: Path
    tree: dict[str, Any]
    replaced: list[KeyPath] = field(default_factory=list)


def find_files(folder: Path) -> list[Path]:
    """The file of this folder, or of one above it, with its override. NotFound where there is none."""
    for place in (folder, *folder.parents):
        for name in USUAL_NAMES:
            if (place / name).is_file():
                overrides = (place / other for other in OVERRIDES[name])
                return [place / name, *[path for path in overrides if path.is_file()][:1]]
    raise NotFound(
        f"cannot find a compose file in {folder} or above it",
        resolution=f"call it {USUAL_NAMES[0]}, or name it: volar compose -f FILE up",
    )


def read_file(path: Path) -> RawFile:
    """Raises NotFound and InvalidInput, which name the file and the line."""
    try:
        content = read_standard_input() if path == STANDARD_INPUT_PATH else read_start(path)
    except FileNotFoundError:
        raise NotFound(f"cannot read {path}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise InvalidInput(f"cannot read {path}: it has more than {MOST_BYTES >> 20} MiB")
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = False
    yaml.constructor.add_constructor("!reset", _construct_reset)
    yaml.constructor.add_constructor("tag:yaml.org,2002:int", _construct_integer)
    yaml.constructor.add_constructor("!override", _construct_override)
    try:
        tree = yaml.load(content)
    except (YAMLError, ValueError, RecursionError) as error:
        details = " ".join(str(error).split())[:400]
        raise InvalidInput(f"cannot read {path}: it is not valid YAML", details=details) from error
    if not isinstance(tree, dict):
        raise InvalidInput(
            f"cannot read {path}: it holds no services",
            resolution="start it with services:, as the specification says",
        )
    raw = RawFile(path, {})
    raw.tree = _take_out(tree, (), raw.replaced, 0, str(path))
    return raw


def read_start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES + 1)


@cache
def read_standard_input() -> bytes:
    """Once: a file is looked at more than once, and a pipe is empty then."""
    return sys.stdin.buffer.read(MOST_BYTES + 1)


def _construct_integer(constructor: Any, node: Any) -> Any:
    """0440 is octal, as those who wrote compose files have always meant it."""
    text = str(constructor.construct_scalar(node))
    return int(text, 8) if re.fullmatch(r"0[0-7]+", text) else constructor.construct_yaml_int(node)


def _construct_reset(constructor: Any, node: Any) -> Reset:
    return Reset()


def _construct_override(constructor: Any, node: Any) -> Reset:
    match node:
        case MappingNode():
            value = constructor.construct_mapping(node, deep=True)
        case SequenceNode():
            value = constructor.construct_sequence(node, deep=True)
        case _:
            value = constructor.construct_scalar(node)
    return Reset(value, replaces=True)


def _take_out(tree: Any, path: KeyPath, replaced: list[KeyPath], depth: int, name: str) -> Any:
    """The tree without Resets, whose places are noted."""
    if depth > 100:
        raise InvalidInput(f"cannot read {name}: it is nested too deeply")
    if isinstance(tree, Reset):
        replaced.append(path)
        return tree.value
    if isinstance(tree, dict):
        found = {}
        for key, value in tree.items():
            place = (*path, str(key))
            if isinstance(value, Reset) and not value.replaces:
                replaced.append(place)
            else:
                found[str(key)] = _take_out(value, place, replaced, depth + 1, name)
        return found
    if isinstance(tree, list):
        return [
            _take_out(value, path, replaced, depth + 1, name)
            for value in tree
            if not isinstance(value, Reset)
        ]
    return tree


def resolve(base: Path, text: str) -> str:
    """A path of a compose file, from the folder that it counts from."""
    return str((base / Path(text).expanduser()).absolute())


def is_local(text: str) -> bool:
    """Whether a build context is a folder, and not a repository or an address."""
    return "://" not in text and not text.startswith("git@") and not text.endswith(".git")


def choose_files(named: Sequence[str], environment: dict[str, str], folder: Path) -> list[Path]:
    """Those of -f, else of COMPOSE_FILE, else the usual ones."""
    if not named and (text := environment.get("COMPOSE_FILE")):
        named = text.split(environment.get("COMPOSE_PATH_SEPARATOR", ":"))
    if not named:
        return find_files(folder)
    return [STANDARD_INPUT_PATH if name == STANDARD_INPUT else (folder / name).absolute() for name in named]
