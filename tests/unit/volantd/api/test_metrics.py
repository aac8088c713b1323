# SPDX-License-Identifier: Apache-2.0
"""What is measured is bounded in its labels, and is what the database says."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.volantd.api.metrics import RequestMetrics, make_registry
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.states import VmState


def test_prometheus_reads_what_is_there(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    with contextlib.ExitStack() as stack:
        domain = make_domain(settings, MemoryHypervisor(MemoryHost()), stack)
        registry = make_registry(domain)
        metrics = RequestMetrics(registry)
        metrics.observe("GET", "/vms", 200, 0.01)
        domain.events.add("created", "web")
        families = {
            family.name: family
            for family in text_string_to_metric_families(generate_latest(registry).decode())
        }
    states = {sample.labels["state"]: sample.value for sample in families["volant_vms"].samples}
    assert states == {state.value: 0.0 for state in VmState}
    statuses = {sample.labels["status"]: sample.value for sample in families["volant_deployments"].samples}
    assert statuses == dict.fromkeys(("progressing", "ready", "degraded", "rolled-back", "deleting"), 0.0)
    assert families["volant_last_event_id"].samples[0].value == 1
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["volant_api_requests"].samples[0].value == 1


def test_labels_take_few_values_whatever_is_asked(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    with contextlib.ExitStack() as stack:
        registry = make_registry(make_domain(settings, MemoryHypervisor(MemoryHost()), stack))
        metrics = RequestMetrics(registry)
        for number in range(1000):
            metrics.observe(f"METHOD{number}", "", 400 + number % 100, 0.1)
        found = [family for family in registry.collect() if family.name == "volant_api_requests"]
    assert len([sample for sample in found[0].samples if sample.name.endswith("_total")]) == 1
