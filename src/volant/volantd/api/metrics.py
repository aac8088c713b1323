# SPDX-License-Identifier: Apache-2.0
"""The daemon's measures in Prometheus' form, by its own library. Labels take few values: never a name, never a path.

docs/reference/metrics.md is made of what is registered here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from volant import __version__
from volant.volantd.resources import RESOURCES
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.states import VmState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class RequestMetrics:
    """Requests to the API, by method, route (as in the API's description, with {name} for names) and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge(
            "volant_api_requests_open",
            "Requests, streams included, that are being answered.",
            registry=registry,
        )
        self._answered = Counter(
            "volant_api_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "volant_api_request_seconds", "How long answers took, to their last byte.", ["method", "route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip

    @contextlib.contextmanager
    def count_open(self) -> Iterator[None]:
        self._open.inc()
        try:
            yield
        finally:
            self._open.dec()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` empty: no route of ours."""
        method = method if method in METHODS else "other"
        route = route or "none"
        self._answered.labels(method, route, f"{status // 100}xx").inc()
        self._seconds.labels(method, route).observe(seconds)


class DomainCollector(Collector):
    """What the database knows, asked when somebody looks."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        yield InfoMetricFamily("volant_build", "This volantd.", {"version": __version__})
        states = self._domain.registry.count_states()
        vms = GaugeMetricFamily("volant_vms", "VMs by state.", labels=["state"])
        for state in VmState:
            vms.add_metric([state.value], states.get(state, 0))
        yield vms
        yield GaugeMetricFamily("volant_plugins", "Installed plugins.", self._domain.plugins.count())
        yield GaugeMetricFamily(
            "volant_last_event_id",
            "Number of the newest event: how many there have been.",
            self._domain.events.last_id,
        )
        for resource in RESOURCES:
            if resource.measure is not None:
                yield from resource.measure(self._domain)


def make_registry(domain: Domain) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(DomainCollector(domain))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)
