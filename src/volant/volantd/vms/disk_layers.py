# SPDX-License-Identifier: Apache-2.0
"""Frozen disk layers: what a VM's disk was at the instant of a snapshot, shared by all that came of it.

A VM writes to `root.qcow2` in its folder. Freezing gives that file a second name in the folder of layers and puts an
empty overlay in its place; the frozen file is never written again. Overlays name their backing file by its path, so a
layer keeps its name for as long as anything stands on it. Which layers are in use is read from the files themselves.

An overlay that is made but not yet in place is no danger: whether the machine has switched to it or not, all of the
disk is there through it. So whatever is found after a crash is put in place, unless the machine still runs without it.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from volant.volantd.vms.disks import list_chain, make_overlay, read_backing

SUFFIX = ".qcow2"
# Layers that somebody is about to stand on, which no file says yet; the sweep runs in a thread of its own.
_held: Counter[Path] = Counter()


def hold_layer(layer: Path) -> None:
    _held[layer] += 1


def release_layer(layer: Path) -> None:
    _held[layer] -= 1


@contextmanager
def held_layer(layer: Path) -> Iterator[None]:
    """Nobody sweeps it meanwhile."""
    hold_layer(layer)
    try:
        yield
    finally:
        release_layer(layer)


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """`overlay` is to take the place of `disk`, which is `layer` then."""

    disk: Path
    layer: Path
    overlay: Path

    @property
    def name(self) -> str:
        """By which a machine that has switched is known again."""
        return name_layer(self.layer)

    def put_in_place(self) -> None:
        try:
            os.replace(self.overlay, self.disk)
        finally:  # the overlay names it, in its place or beside it
            release_layer(self.layer)

    def give_up(self) -> None:
        """The machine never switched: as if nothing had been prepared."""
        try:
            self.overlay.unlink(missing_ok=True)
            self.layer.unlink(missing_ok=True)
        finally:
            release_layer(self.layer)


def name_layer(layer: Path) -> str:
    return f"over-{layer.stem}"


def name_overlay(disk: Path) -> Path:
    return disk.with_name(f"{disk.name}.next")


def prepare_layer(disk: Path, layers: Path) -> PreparedLayer:
    """Name `disk` a layer too, and make an empty overlay over it beside. Blocking; StorageFull where it is full."""
    layer = name_new_layer(layers)
    hold_layer(layer)
    try:
        os.link(disk, layer)
    except BaseException:
        release_layer(layer)
        raise
    prepared = PreparedLayer(disk, layer, name_overlay(disk))
    try:
        prepared.overlay.unlink(missing_ok=True)
        make_overlay(prepared.overlay, layer, "qcow2", None)
    except BaseException:
        prepared.give_up()
        raise
    return prepared


def name_new_layer(layers: Path) -> Path:
    layers.mkdir(parents=True, exist_ok=True, mode=0o700)
    return layers / f"{secrets.token_hex(8)}{SUFFIX}"


def settle_overlay(disk: Path, writes_to: str | None) -> None:
    """After a crash: an overlay that was being put in place is, unless the machine that runs writes past it.

    `writes_to` is the name of what a running machine writes to (`PreparedLayer.name` once it has switched); None where
    none runs.
    """
    overlay = name_overlay(disk)
    if not overlay.exists():
        return
    layer = read_backing(overlay)
    if writes_to is None or (layer is not None and writes_to == name_layer(layer)):
        os.replace(overlay, disk)
    else:
        overlay.unlink()  # the layer's second name goes with the next sweep


def has_layers(disk: Path) -> bool:
    """Whether there is anything between the VM's own disk, or what was to take its place, and its plugin's."""
    return any(len(list(list_chain(top))) > 2 for top in (disk, name_overlay(disk)))


def sweep_layers(layers: Path, tops: Iterable[Path]) -> list[Path]:
    """Remove the layers that no disk stands on any more; returns them. Blocking."""
    if not layers.is_dir():
        return []
    # In this order: what is held before the files are read is either held still or found in them.
    there = list(layers.iterdir())
    held = {layer for layer, count in list(_held.items()) if count > 0}
    used = {path for top in tops for path in list_chain(top)}
    unused = [path for path in there if path not in used and path not in held]
    for path in unused:
        path.unlink()
    return unused
