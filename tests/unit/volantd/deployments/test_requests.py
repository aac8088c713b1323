# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput, NotFound
from volant.volantd.deployments.record import Template, UpdatePolicy
from volant.volantd.deployments.requests import (
    DeploymentChange,
    DeploymentRequests,
    PolicyRequest,
    TemplateChange,
    choose_ports,
    make_policy,
)
from volant.volantd.network.types import PortRequest, PublishedPort
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.record import AttachedSecret
from volant.volantd.vms.request_keys import RequestKey

WEB = Template(vm=NewVm(name="", plugin="web", env={"A": "1", "B": "2"}, user_data=b"\xff\x00"))
WRITER = Template(vm=NewVm(name="", plugin="web", volumes=[("data", "/data", False)]))


@pytest.fixture
async def requests(tmp_path: Path) -> AsyncIterator[DeploymentRequests]:
    async with open_fleet(tmp_path) as fleet:
        yield DeploymentRequests(fleet.domain)


def create(requests: DeploymentRequests, template: Template = WEB, replicas: int = 2, **policy: int) -> None:
    requests.create("app", replicas, template, [], PolicyRequest(**policy), {"team": "a"})


async def test_a_template_is_kept_as_it_is_with_the_version_of_its_plugin(
    requests: DeploymentRequests,
) -> None:
    create(requests)
    kept = requests.store.get_template(requests.store.get("app"))
    assert kept.vm == NewVm(name="", plugin="web:1.0.0", env={"A": "1", "B": "2"}, user_data=b"\xff\x00")
    assert Template.model_validate_json(kept.dump()) == kept


async def test_a_change_is_a_new_revision_and_no_change_is_none(requests: DeploymentRequests) -> None:
    create(requests)
    change = TemplateChange(env={"A": None, "C": "3"}, memory_mb=64)
    after = requests.change("app", DeploymentChange(change=change))
    assert after.revision == 2
    vm = requests.store.get_template(after).vm
    assert (vm.env, vm.memory_mb) == ({"B": "2", "C": "3"}, 64)
    assert requests.change("app", DeploymentChange(change=change)) == after
    assert requests.change("app", DeploymentChange(template=requests.store.get_template(after))) == after
    assert requests.change("app", DeploymentChange(replicas=3)).revision == 2
    relabelled = requests.change("app", DeploymentChange(labels={"team": None, "tier": "1"}))
    assert (relabelled.labels, relabelled.revision) == ({"tier": "1"}, 2)


async def test_an_update_goes_back_to_what_was_reached_last(requests: DeploymentRequests) -> None:
    create(requests)
    assert requests.change("app", DeploymentChange(change=TemplateChange(vcpu=2))).progress.base is None
    reached = requests.store.get("app")
    settled = reached.progress.model_copy(update={"is_settled": True, "leaving": ("x",)})
    requests.store.database.execute("UPDATE deployments SET progress = ?", (settled.model_dump_json(),))
    for vcpu in (3, 4):
        after = requests.change("app", DeploymentChange(change=TemplateChange(vcpu=vcpu)))
        assert (after.progress.base, after.progress.leaving) == (2, ("x",))
        assert not after.progress.is_settled


async def test_back_to_the_newest_that_was_otherwise_or_to_one_that_is_named(
    requests: DeploymentRequests,
) -> None:
    create(requests)
    with pytest.raises(Conflict, match="there is no earlier revision"):
        requests.roll_back("app", None)
    requests.change("app", DeploymentChange(change=TemplateChange(vcpu=2)))
    requests.change("app", DeploymentChange(change=TemplateChange(vcpu=3)))
    assert requests.roll_back("app", None).revision == 4
    assert requests.store.get_template(requests.store.get("app")).vm.vcpu == 2
    assert requests.roll_back("app", 1).revision == 5
    with pytest.raises(Conflict, match="made that way now"):
        requests.roll_back("app", 1)
    with pytest.raises(NotFound, match="revision 9"):
        requests.roll_back("app", 9)
    causes = [revision.cause for revision in requests.store.list_revisions(requests.store.get("app"))]
    assert causes == ["create", "update", "update", "rollback to 2", "rollback to 1"]


async def test_old_revisions_go_but_not_what_is_gone_back_to(requests: DeploymentRequests) -> None:
    create(requests)
    for vcpu in range(2, 30):
        requests.change("app", DeploymentChange(change=TemplateChange(vcpu=vcpu)))
    numbers = [revision.number for revision in requests.store.list_revisions(requests.store.get("app"))]
    assert numbers == list(range(10, 30))


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        (Template(vm=NewVm(name="", plugin="none")), NotFound, "none"),
        (Template(vm=NewVm(name="", plugin="")), InvalidInput, "of a snapshot"),
        (Template(vm=NewVm(name="", plugin="web", env={"a b": ""})), InvalidInput, "variable 'a b'"),
        (Template(vm=NewVm(name="", plugin="web", secrets=[AttachedSecret(name="s")])), NotFound, "secret s"),
        (
            Template(vm=NewVm(name="", plugin="web", publish=[PortRequest(80, 8080)])),
            InvalidInput,
            "port 8080",
        ),
        (
            Template(vm=NewVm(name="", plugin="web", labels={"volant.deployment": "x"})),
            InvalidInput,
            "volant.deployment",
        ),
        (WRITER, NotFound, "volume data"),
    ],
)
async def test_what_could_not_become_vms_is_refused_and_leaves_nothing(
    requests: DeploymentRequests, template: Template, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create(requests, template)
    assert requests.store.list_all() == []


async def test_one_vm_writes_to_a_volume(requests: DeploymentRequests) -> None:
    requests._domain.volumes.create("data", 16 << 20)
    with pytest.raises(InvalidInput, match="one writes to a volume"):
        create(requests, WRITER, 2)
    with pytest.raises(InvalidInput, match="max_surge 1"):
        create(requests, WRITER, 1, max_surge=1)
    create(requests, WRITER, 1)
    policy = requests.store.get("app").policy
    assert (policy.max_surge, policy.max_unavailable) == (0, 1)
    with pytest.raises(InvalidInput, match="one writes to a volume"):
        requests.change("app", DeploymentChange(replicas=2))


async def test_who_asks_again_with_the_same_key_gets_what_was_made(requests: DeploymentRequests) -> None:
    key = RequestKey("uid 0", "k", b"content")
    made = requests.create("app", 1, WEB, [], PolicyRequest(), {}, key)
    assert requests.create("app", 1, WEB, [], PolicyRequest(), {}, key) == made
    with pytest.raises(Conflict, match="there is one already"):
        create(requests)
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        requests.create("app", 1, WEB, [], PolicyRequest(), {}, RequestKey("uid 0", "k", b"other"))


async def test_one_that_is_being_deleted_is_not_changed(requests: DeploymentRequests) -> None:
    create(requests)
    requests.delete("app")
    with pytest.raises(Conflict, match="being deleted"):
        requests.change("app", DeploymentChange(replicas=1))


def test_how_vms_make_room_is_completed_by_what_is_usual() -> None:
    assert make_policy(PolicyRequest(), WEB, None) == UpdatePolicy(max_unavailable=0, max_surge=1)
    assert make_policy(PolicyRequest(max_surge=0), WEB, None).max_unavailable == 1
    assert make_policy(PolicyRequest(drain_seconds=0), WEB, None).drain_seconds == 0
    before = UpdatePolicy(max_unavailable=2, max_surge=3, healthy_seconds=9)
    assert make_policy(PolicyRequest(max_unavailable=1), WEB, before) == UpdatePolicy(
        max_unavailable=1, max_surge=3, healthy_seconds=9
    )
    assert make_policy(PolicyRequest(), WRITER, before).max_surge == 0


def test_its_own_ports_are_not_in_use() -> None:
    before = (PublishedPort("127.0.0.1", 18_001, 80), PublishedPort("127.0.0.1", 18_002, 443))
    assert choose_ports(before, [PortRequest(80), PortRequest(443, 18_002)]) == before
    moved = choose_ports(before, [PortRequest(8080, 18_001)])
    assert moved == (PublishedPort("127.0.0.1", 18_001, 8080),)
    (added,) = choose_ports((), [PortRequest(80)])
    assert added.host_port > 0
