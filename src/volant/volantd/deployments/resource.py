# SPDX-License-Identifier: Apache-2.0
"""Deployments as a kind of resource."""

from __future__ import annotations

import logging

from volant.volantd.deployments.controller import Controller
from volant.volantd.deployments.measuring import measure
from volant.volantd.deployments.routes import make_router
from volant.volantd.deployments.store import MIGRATIONS, DeploymentStore
from volant.volantd.resource import Resource
from volant.volantd.usage import FindUsers, Used
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet

logger = logging.getLogger(__name__)


async def sweep(fleet: Fleet) -> None:
    for row in DeploymentStore(fleet.domain.database).set_aside_unreadable():
        logger.error("deployment %s: it cannot be read and was set aside: %s", row.name, row.problem)


async def tend(fleet: Fleet) -> None:
    await Controller(fleet).run()


def find_users(domain: Domain) -> FindUsers:
    store = DeploymentStore(domain.database)

    def find(used: Used, name: str) -> list[str]:
        """Those whose next VM needs it, or that go back to it when an update fails."""
        return [
            deployment.name
            for deployment in store.list_all()
            for number in {deployment.revision, deployment.progress.base or deployment.revision}
            if store.get_template(deployment, number).uses(used, name)
        ]

    return find


DEPLOYMENTS = Resource(
    name="deployments",
    noun="deployment",
    migrations=MIGRATIONS,
    make_routers=lambda fleet: [make_router(fleet)],
    sweep=sweep,
    tend=tend,
    find_users=find_users,
    measure=measure,
)
