# SPDX-License-Identifier: Apache-2.0
"""Why a container failed, by the end of its log: for pods with terminationMessagePolicy FallbackToLogsOnError."""

from __future__ import annotations

from lightkube.models.core_v1 import Container, ContainerStateTerminated, PodStatus

from volant.client import AsyncClient
from volant.contract.api_types import Vm
from volant.kubernetes.pod_logs import LogOptions, read_lines
from volant.kubernetes.status import find_last_message

# As the kubelet has it.
MOST_LINES, MOST_BYTES = 80, 2048


class LastWords:
    """Of one container: the log of each of its runs is read once."""

    def __init__(self, client: AsyncClient, container: Container) -> None:
        self._client = client
        self._is_wanted = container.terminationMessagePolicy == "FallbackToLogsOnError"
        self._run = ""
        self._said = ""

    async def add(self, status: PodStatus, vm: Vm) -> None:
        """To what the status tells of the end of this run, where it failed and left no message."""
        if not self._is_wanted or find_last_message(vm):
            return
        for container in status.containerStatuses or []:
            for state in (container.state, container.lastState):
                ended = state.terminated if state is not None else None
                if ended is not None and ended.exitCode and ended.containerID == container.containerID:
                    ended.message = await self._read(ended, vm) or ended.message

    async def _read(self, ended: ContainerStateTerminated, vm: Vm) -> str:
        if ended.containerID != self._run:
            lines = [line async for line in read_lines(self._client, vm, LogOptions(tail=MOST_LINES))]
            # Whether the last line was ended is not kept.
            said = b"".join(lines).removesuffix(b"\n")[-MOST_BYTES:]
            self._run, self._said = ended.containerID or "", said.decode("utf-8", "replace")
        return self._said
