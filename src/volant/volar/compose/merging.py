# SPDX-License-Identifier: Apache-2.0
"""One tree over another, as the Compose specification says ("Merge"): mappings merge, lists grow, some are replaced.

Both are of long forms, so that ports and volumes can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from volant.volar.compose.files import KeyPath

Tree = dict[str, Any]
# Of a service: what a later file replaces whole.
REPLACED = frozenset({"command", "entrypoint", "healthcheck.test"})
UNIQUE: dict[str, Callable[[Tree], Any]] = {
    "ports": lambda port: (
        port.get("host_ip"),
        port["target"],
        port.get("published"),
        port.get("protocol", "tcp"),
    ),
    "volumes": lambda volume: volume.get("target"),
    "secrets": lambda secret: secret.get("target") or secret.get("source"),
    "configs": lambda config: config.get("target") or config.get("source"),
    "env_file": lambda file: file.get("path"),
}


def merge_files(below: Tree, above: Tree, replaced: Iterable[KeyPath]) -> Tree:
    base = below
    for path in replaced:
        base = _without(base, path)
    return _merge(base, above, ())  # type: ignore[no-any-return]  # two mappings are one


def merge_services(below: Tree, above: Tree, replaced: Iterable[KeyPath]) -> Tree:
    """Of one service, for `extends`; places count from the service."""
    for path in replaced:
        below = _without(below, path)
    return _merge(below, above, ("services", ""))  # type: ignore[no-any-return]  # two mappings are one


def _without(tree: Tree, path: KeyPath) -> Tree:
    if not path or path[0] not in tree:
        return tree
    if len(path) == 1:
        return {key: value for key, value in tree.items() if key != path[0]}
    inner = tree[path[0]]
    return {**tree, path[0]: _without(inner, path[1:]) if isinstance(inner, dict) else inner}


def _merge(below: Any, above: Any, path: KeyPath) -> Any:
    key = ".".join(path[2:]) if path[:1] == ("services",) else ""
    if key in REPLACED:
        return above
    if isinstance(below, dict) and isinstance(above, dict):
        merged = dict(below)
        for name, value in above.items():
            merged[name] = _merge(below[name], value, (*path, name)) if name in below else value
        return merged
    if isinstance(below, list) and isinstance(above, list):
        return _merge_unique(below, above, UNIQUE[key]) if key in UNIQUE else _append(below, above)
    return above


def _merge_unique(below: list[Tree], above: list[Tree], identify: Callable[[Tree], Any]) -> list[Tree]:
    merged = {identify(item): item for item in below}
    for item in above:
        key = identify(item)
        merged[key] = {**merged[key], **item} if key in merged else item
    return list(merged.values())


def _append(below: list[Any], above: list[Any]) -> list[Any]:
    return [*below, *(item for item in above if item not in below)]
