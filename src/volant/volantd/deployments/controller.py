# SPDX-License-Identifier: Apache-2.0
"""Has deployments become what they are to be: looks at each when something has happened to it, and does one step.

Events and the clock wake it, never a guest that is asked. What it is about to do is in the database before it does it
(`record.Progress`, and a VM's membership in the transaction of its row), so that whichever daemon looks next goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from functools import partial

from volant.errors import NotFound, VolantError
from volant.volantd.clock import now
from volant.volantd.deployments.balancing import KIND as KIND_CARRIED
from volant.volantd.deployments.balancing import Balancing, name_key
from volant.volantd.deployments.observing import describe_condition, find_condition, find_serving
from volant.volantd.deployments.planning import (
    Act,
    Condition,
    Create,
    Finish,
    Forgive,
    Leave,
    Plan,
    Remove,
    Replica,
    RollBack,
    Settle,
    Situation,
    make_plan,
)
from volant.volantd.deployments.record import Deployment, Progress, Template
from volant.volantd.deployments.replica import make_request
from volant.volantd.deployments.requests import KIND, DeploymentRequests
from volant.volantd.tasks import end_tasks
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord

logger = logging.getLogger(__name__)

# What happens at the same time is looked at once.
CALM_SECONDS = 0.02
AFTER_ERROR_SECONDS = 1.0
MOST_STEPS = 20


@dataclass(slots=True)
class Watch:
    """What this daemon has seen of one deployment, and is doing about it: nothing that another one needs to know.

    Times are the event loop's.
    """

    balancing: Balancing
    conditions: dict[str, tuple[Condition, float]] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    """Ids of VMs that were ready once."""
    making: dict[str, int] = field(default_factory=dict)
    removing: set[str] = field(default_factory=set)
    failed: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    waits_since: float | None = None
    ready_current: int = 0


class Controller:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._domain = fleet.domain
        self._requests = DeploymentRequests(fleet.domain)
        self._store = self._requests.store
        self._watches: dict[str, Watch] = {}
        self._members: set[str] = set()
        self._templates: dict[tuple[str, int], Template] = {}
        self._poked = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled; VMs run on."""
        keys = [name_key(deployment.id) for deployment in self._store.list_all() if not deployment.deleting]
        await self._domain.carrier.keep(KIND_CARRIED, keys)
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                self._poked.clear()
                delay_seconds = self._look_at_all()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_seconds):
                        await self._poked.wait()
                await asyncio.sleep(CALM_SECONDS)
        finally:
            await end_tasks([listening])
            for watch in self._watches.values():
                watch.balancing.release()

    async def _listen(self) -> None:
        with self._domain.events.listen() as happenings:
            while True:
                event = await happenings.get()
                if event.kind == KIND or event.data.get("id") in self._members:
                    self._poked.set()

    def _look_at_all(self) -> float | None:
        """When to look again, whatever happens until then."""
        deployments = self._store.list_all()
        for gone in self._watches.keys() - {deployment.id for deployment in deployments}:
            self._watches.pop(gone).balancing.close()
        self._members = set()
        delays = [self._try_look(deployment) for deployment in deployments]
        return min((delay for delay in delays if delay is not None), default=None)

    def _try_look(self, deployment: Deployment) -> float | None:
        try:
            return self._look(deployment)
        except Exception:
            logger.exception("deployment %s: cannot be looked after", deployment.name)
            return AFTER_ERROR_SECONDS

    def _look(self, deployment: Deployment) -> float | None:
        watch = self._watches.get(deployment.id)
        if watch is None:
            watch = self._watches[deployment.id] = Watch(
                Balancing(self._fleet, deployment.id, self._poked.set)
            )
        for _ in range(MOST_STEPS):
            records = self._read_vms(deployment)
            situation = self._observe(deployment, watch, records)
            plan = make_plan(situation)
            deployment, has_changed = self._do(deployment, watch, plan)
            if Finish() in plan.acts:
                return None
            if not has_changed:
                break
        self._members |= records.keys()
        return plan.again_in_seconds

    def _read_vms(self, deployment: Deployment) -> dict[str, tuple[VmRecord, int]]:
        members = self._store.list_vms(deployment)
        records = self._domain.registry.read_many(list(members))
        return {record.id: (record, members[record.id]) for record in records}

    def _get_template(self, deployment: Deployment, number: int) -> Template:
        key = (deployment.id, number)
        if key not in self._templates:
            self._templates[key] = self._store.get_template(deployment, number)
        return self._templates[key]

    def _observe(
        self, deployment: Deployment, watch: Watch, records: dict[str, tuple[VmRecord, int]]
    ) -> Situation:
        now_seconds = asyncio.get_running_loop().time()
        wanted = self._get_template(deployment, deployment.revision).dump()
        replicas, seen = [], {}
        for record, number in records.values():
            template = self._get_template(deployment, number)
            condition = find_condition(record, template)
            before, since = watch.conditions.get(record.id, (None, now_seconds))
            seen[record.id] = (condition, since if before is condition else now_seconds)
            replicas.append(
                Replica(
                    id=record.id, name=record.name, number=_read_number(record.name), condition=condition,
                    is_current=template.dump() == wanted, seconds=now_seconds - seen[record.id][1],
                    reason=describe_condition(record, condition),
                )
            )  # fmt: skip
        watch.conditions = seen
        # Whatever was asked for meanwhile begins anew.
        watch.failed = {name: at for name, at in watch.failed.items() if name in deployment.progress.failures}
        progress = deployment.progress
        self._send_work(deployment, watch, [record for record, _ in records.values()])
        names = {replica.name for replica in replicas}
        return Situation(
            name=deployment.name,
            wanted=deployment.replicas,
            max_unavailable=deployment.policy.max_unavailable,
            max_surge=deployment.policy.max_surge,
            healthy_seconds=deployment.policy.healthy_seconds,
            replicas=tuple(sorted(replicas, key=lambda each: each.number)),
            leaving=progress.leaving,
            busy=watch.removing | {each.id for each in replicas if each.name in watch.making},
            making={
                name: self._get_template(deployment, number).dump() == wanted
                for name, number in watch.making.items()
                if name not in names
            },
            failures=progress.failures,
            failed={name: now_seconds - moment for name, moment in watch.failed.items() if name not in names},
            taken=self._store.list_names(deployment.name),
            can_roll_back=progress.base is not None,
            is_settled=progress.is_settled,
            is_deleting=deployment.deleting,
            waited_seconds=self._measure_wait(watch, progress, replicas, now_seconds),
            problem=watch.balancing.problem or watch.problem,
        )

    def _send_work(self, deployment: Deployment, watch: Watch, records: list[VmRecord]) -> None:
        """To those that are not on their way out."""
        conditions = {vm_id: condition for vm_id, (condition, _) in watch.conditions.items()}
        ready = {vm_id for vm_id, condition in conditions.items() if condition is Condition.READY}
        watch.proven = (watch.proven & conditions.keys()) | ready
        for vm_id in deployment.progress.leaving:
            conditions.pop(vm_id, None)
        serving = find_serving(conditions, watch.proven)
        watch.balancing.follow(deployment, [record for record in records if record.id in serving])

    def _measure_wait(
        self, watch: Watch, progress: Progress, replicas: list[Replica], now_seconds: float
    ) -> float | None:
        """For how long an update has waited for a new VM to become ready; None where it waits for none."""
        current = [each for each in replicas if each.is_current and each.id not in progress.leaving]
        ready = sum(each.condition is Condition.READY for each in current)
        waits = len(current) > ready or bool(watch.making or watch.failed)
        if progress.is_settled or not waits:
            watch.waits_since = None
        elif watch.waits_since is None or ready > watch.ready_current:
            watch.waits_since = now_seconds
        watch.ready_current = ready
        return None if watch.waits_since is None else now_seconds - watch.waits_since

    def _do(self, deployment: Deployment, watch: Watch, plan: Plan) -> tuple[Deployment, bool]:
        """The deployment as it is then, and whether another look is needed at once."""
        if Finish() in plan.acts:
            self._store.remove(deployment)
            watch.balancing.close()
            self._requests.tell(deployment, "deleted")
            return deployment, False
        roll_back = next((act for act in plan.acts if isinstance(act, RollBack)), None)
        if roll_back is not None:
            watch.failed.clear()
            watch.problem, watch.waits_since = "", None
            return self._roll_back(deployment, roll_back.reason), True
        existing = self._store.list_vms(deployment)
        kept = tuple(vm_id for vm_id in deployment.progress.leaving if vm_id in existing)
        progress = _note(deployment.progress.model_copy(update={"leaving": kept}), plan.acts)
        progress = progress.model_copy(update={"reason": plan.reason})
        if progress != deployment.progress:
            is_news = (progress.is_settled, progress.reason) != (
                deployment.progress.is_settled,
                deployment.progress.reason,
            )
            deployment = replace(deployment, progress=progress)
            self._store.write(deployment)
            if is_news:
                status = "settled" if progress.is_settled else "progressing"
                self._requests.tell(deployment, status, progress.reason or progress.rolled_back)
        for act in plan.acts:
            self._begin(deployment, watch, act)
        return deployment, any(isinstance(act, Leave | Settle | Forgive) for act in plan.acts)

    def _begin(self, deployment: Deployment, watch: Watch, act: Act) -> None:
        match act:
            case Create(name):
                watch.making[name] = deployment.revision
                watch.failed.pop(name, None)
                self._fleet.background.run(self._create(deployment, watch, name), f"creation of {name}")
            case Remove(vm_id):
                watch.removing.add(vm_id)
                self._fleet.background.run(self._remove(deployment, watch, vm_id), f"removal of {vm_id}")

    def _roll_back(self, deployment: Deployment, reason: str) -> Deployment:
        base = deployment.progress.base
        assert base is not None
        logger.warning("deployment %s is rolled back to revision %d: %s", deployment.name, base, reason)
        template = self._get_template(deployment, base)
        progress = Progress(rolled_back=reason, leaving=deployment.progress.leaving)
        number = max(revision.number for revision in self._store.list_revisions(deployment)) + 1
        after = replace(deployment, revision=number, progress=progress, updated_at=now())
        with self._store.database.transaction():
            self._store.write(after)
            self._store.add_revision(after, template, f"rollback to {base}", "volantd")
        self._requests.tell(after, "rolled-back", reason)
        return after

    async def _create(self, deployment: Deployment, watch: Watch, name: str) -> None:
        number = deployment.revision
        try:
            request = make_request(self._domain, deployment, self._get_template(deployment, number), name)
            await self._fleet.create(request, partial(self._store.add_vm, deployment, number))
            watch.problem = ""
        except VolantError as error:
            logger.warning("deployment %s: %s", deployment.name, error.what)
            watch.problem = error.what
            watch.failed[name] = asyncio.get_running_loop().time()
            self._count_failure(deployment.id, name)
        finally:
            watch.making.pop(name, None)
            self._poked.set()

    def _count_failure(self, deployment_id: str, name: str) -> None:
        with contextlib.suppress(NotFound):
            deployment = self._store.get(deployment_id)
            failures = deployment.progress.failures
            counted = {**failures, name: failures.get(name, 0) + 1}
            progress = deployment.progress.model_copy(update={"failures": counted})
            self._store.write(replace(deployment, progress=progress))

    async def _remove(self, deployment: Deployment, watch: Watch, vm_id: str) -> None:
        try:
            if not deployment.deleting:
                await watch.balancing.drain(vm_id, deployment.policy.drain_seconds)
            await self._fleet.delete(vm_id)
        except NotFound:
            pass  # somebody was faster
        except VolantError as error:
            logger.warning("deployment %s: %s", deployment.name, error.what)
            await asyncio.sleep(AFTER_ERROR_SECONDS)
        finally:
            watch.removing.discard(vm_id)
            self._poked.set()


def _note(progress: Progress, acts: tuple[Act, ...]) -> Progress:
    """What is written before the acts are begun."""
    failures, leaving = dict(progress.failures), list(progress.leaving)
    is_settled, base = progress.is_settled, progress.base
    for act in acts:
        match act:
            case Leave(vm_id, name, count):
                leaving.append(vm_id)
                if count is not None:
                    failures[name] = count
            case Forgive(name):
                failures.pop(name, None)
            case Settle():
                is_settled, base = True, None
    return progress.model_copy(
        update={"failures": failures, "leaving": tuple(leaving), "is_settled": is_settled, "base": base}
    )


def _read_number(name: str) -> int:
    return int(name.rpartition("-")[2])
