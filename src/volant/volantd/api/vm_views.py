# SPDX-License-Identifier: Apache-2.0
"""VMs as the bytes of the API's JSON, rendered once for each change of a row rather than for each request.

What a VM shows comes from its row, from its plugin's manifest (which cannot change while a VM uses it) and from what
its machine complains about. The registry tells of the first, the last is compared. Kept are as many as there are VMs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from volant.volantd.api.alike_texts import AlikeTexts
from volant.volantd.api.vm_view import describe_vm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord

# Rendered between two looks at what others want of the event loop: some milliseconds.
AT_ONCE = 50
# Of what is rendered already, handed to the connection in one piece.
PIECE = 1_000


class VmViews:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._rendered = AlikeTexts()
        self._problems: dict[str, str] = {}
        # Of those that were asked for by their names, in both directions: who asks does so again and again.
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}
        fleet.domain.registry.on_change = self._forget

    def _forget(self, vm_id: str) -> None:
        self._rendered.discard(vm_id)
        self._problems.pop(vm_id, None)
        if (name := self._names.pop(vm_id, None)) is not None:
            del self._ids[name]

    def render(self, name_or_id: str) -> bytes:
        """One VM; NotFound otherwise."""
        known = self._ids.get(name_or_id)
        if known is not None and (view := self._find(known)) is not None:
            return view
        registry = self._fleet.domain.registry
        vm_id = registry.find_id(name_or_id)
        found = None if vm_id is None else self._find(vm_id)
        if vm_id is None or found is None:
            record = registry.get(name_or_id)
            vm_id, found = record.id, self._keep(record)
        if name_or_id != vm_id:
            self._ids[name_or_id], self._names[vm_id] = vm_id, name_or_id
        return found

    def render_record(self, record: VmRecord) -> bytes:
        """A record as somebody has it. It may be older than its row by now, so it is not kept."""
        problem = self._fleet.find_problem(record.id)
        return describe_vm(self._fleet.domain, record, problem).model_dump_json().encode()

    def _keep(self, record: VmRecord) -> bytes:
        """A record that was read just now."""
        view = self.render_record(record)
        self._rendered.put(record.id, view)
        if problem := self._fleet.find_problem(record.id):
            self._problems[record.id] = problem
        else:
            self._problems.pop(record.id, None)
        return view

    async def render_list(self, ids: Sequence[str]) -> AsyncIterator[bytes]:
        """A JSON list in pieces. A VM that is deleted meanwhile is left out."""
        separator = b"["
        for start in range(0, len(ids), PIECE):
            wanted = ids[start : start + PIECE]
            await self._render_missing([vm_id for vm_id in wanted if not self._is_kept(vm_id)])
            views = [view for vm_id in wanted if (view := self._find(vm_id) or self._render(vm_id))]
            if views:
                yield separator + b",".join(views)
                separator = b","
        yield b"[]" if separator == b"[" else b"]"

    def _render(self, vm_id: str) -> bytes | None:
        """One that has changed since it was rendered a moment ago; None where it has gone."""
        return next((self._keep(record) for record in self._fleet.domain.registry.read_many([vm_id])), None)

    async def _render_missing(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), AT_ONCE):
            for record in self._fleet.domain.registry.read_many(ids[start : start + AT_ONCE]):
                self._keep(record)
            await asyncio.sleep(0)

    def _find(self, vm_id: str) -> bytes | None:
        return self._rendered.get(vm_id) if self._is_kept(vm_id) else None

    def _is_kept(self, vm_id: str) -> bool:
        is_same_problem = self._problems.get(vm_id, "") == self._fleet.find_problem(vm_id)
        return is_same_problem and vm_id in self._rendered
