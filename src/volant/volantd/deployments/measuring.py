# SPDX-License-Identifier: Apache-2.0
"""Deployments among the daemon's measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from volant.volantd.deployments.store import DeploymentStore
from volant.volantd.deployments.view import STATUSES, look_at
from volant.volantd.vms.domain import Domain


def measure(domain: Domain) -> Iterator[GaugeMetricFamily]:
    store = DeploymentStore(domain.database)
    deployments = store.list_all()
    overviews = [look_at(store, domain.registry, deployment) for deployment in deployments]
    counts = Counter(overview.status for overview in overviews)
    by_status = GaugeMetricFamily("volant_deployments", "Deployments by status.", labels=["status"])
    for status in STATUSES:
        by_status.add_metric([status], counts[status])
    yield by_status
    yield GaugeMetricFamily(
        "volant_deployment_replicas",
        "VMs that deployments are to have.",
        sum(each.replicas for each in deployments),
    )
    yield GaugeMetricFamily(
        "volant_deployment_replicas_ready",
        "VMs of them that are ready.",
        sum(each.ready for each in overviews),
    )
