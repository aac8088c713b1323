# SPDX-License-Identifier: Apache-2.0
"""What becomes of each key of a compose file: done, left out with a warning that says why, or refused.

The one table of it: `up` warns by it, `config` shows it, docs/reference/compose.md is made of it, and a test holds it
to the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel

from volant.volar.compose import model
from volant.volar.compose.model import Stack


class Fate(StrEnum):
    DONE = "done"
    LEFT_OUT = "left out"
    REFUSED = "refused"


class Answer(NamedTuple):
    fate: Fate
    why: str


class KeyFate(NamedTuple):
    """`place`: as services.web.image."""

    place: str
    fate: Fate
    why: str


_KERNEL = "a VM has its own kernel, and so its own namespaces and devices"
_GROUPS = "a VM has its own processors and memory: cpus, mem_limit or x-volant set how much"
_GUEST = "set it in the image, or in a config of the service"
_NAMES = "the daemon's DNS answers inside of a VM"
_ADDRESS = "the daemon chooses addresses; services find each other by name"
_BUILDER = "fledge builds with context, dockerfile, args, target and platforms"
_TERMINAL = "a workload has no terminal: volar compose exec SERVICE sh"
_LOGS = "volar compose logs keeps what processes write"
_PLACING = "one daemon has all VMs, and balances connections over them"
_UPDATES = "an update waits for each new VM to be healthy, and is undone if one is not"

# By the model's name and the key's. What is not here is done.
LEFT_OUT: dict[tuple[str, str], str] = {
    **{
        ("Service", key): _KERNEL
        for key in (
            "cap_add",
            "cap_drop",
            "cgroup",
            "cgroup_parent",
            "credential_spec",
            "device_cgroup_rules",
            "devices",
            "gpus",
            "ipc",
            "isolation",
            "pid",
            "privileged",
            "runtime",
            "security_opt",
            "userns_mode",
            "uts",
            "use_api_socket",
        )
    },
    **{
        ("Service", key): _GROUPS
        for key in (
            "blkio_config",
            "cpu_count",
            "cpu_percent",
            "cpu_period",
            "cpu_quota",
            "cpu_rt_period",
            "cpu_rt_runtime",
            "cpu_shares",
            "cpuset",
            "mem_reservation",
            "mem_swappiness",
            "memswap_limit",
            "oom_kill_disable",
            "oom_score_adj",
            "pids_limit",
        )
    },
    **{("Service", key): _GUEST for key in ("group_add", "sysctls", "ulimits")},
    **{("Service", key): _NAMES for key in ("dns", "dns_opt", "dns_search")},
    **{("Service", key): _TERMINAL for key in ("stdin_open", "tty")},
    ("Service", "annotations"): "labels are kept",
    ("Service", "attach"): "volar compose logs SERVICE shows one service alone",
    (
        "Service",
        "container_name",
    ): "VMs are called STACK-SERVICE-NUMBER; other services reach it by this name, too",
    ("Service", "develop"): "volar compose up --build builds again",
    ("Service", "external_links"): "services of one stack find each other; share a network with the other VM",
    ("Service", "logging"): _LOGS,
    ("Service", "mac_address"): _ADDRESS,
    ("Service", "post_start"): "hooks belong into the image's kestrel config",
    ("Service", "pre_stop"): "hooks belong into the image's kestrel config",
    ("Service", "pull_refresh_after"): "volar compose pull fetches again",
    ("Service", "read_only"): "the root disk of a VM can be written to",
    ("Service", "shm_size"): "shared memory is half of the VM's own",
    ("Service", "storage_opt"): "x-volant: {disk_size: 20G}",
    ("Service", "tmpfs"): "the folder stays on the VM's disk",
    **{
        ("Build", key): _BUILDER
        for key in (
            "additional_contexts",
            "cache_from",
            "cache_to",
            "entitlements",
            "extra_hosts",
            "isolation",
            "labels",
            "network",
            "no_cache",
            "privileged",
            "provenance",
            "pull",
            "sbom",
            "secrets",
            "shm_size",
            "ssh",
            "tags",
            "ulimits",
        )
    },
    **{("Port", key): "it has no meaning for a VM" for key in ("name", "app_protocol", "mode")},
    ("ServiceVolume", "tmpfs"): "the folder stays on the VM's disk",
    ("ServiceVolume", "bind"): "create_host_path is used; the rest has no meaning for a VM",
    **{("ServiceVolume", key): "it has no meaning for a VM" for key in ("consistency", "volume")},
    ("Dependency", "restart"): "a service that depends on another keeps running while that one is replaced",
    ("HealthCheck", "start_interval"): "the agent asks often while a workload starts",
    **{
        ("ServiceNetwork", key): _ADDRESS
        for key in (
            "driver_opts",
            "gw_priority",
            "interface_name",
            "ipv4_address",
            "ipv6_address",
            "link_local_ips",
            "mac_address",
            "priority",
        )
    },
    ("Limits", "pids"): _KERNEL,
    **{("Reservations", key): _KERNEL for key in ("devices", "generic_resources")},
    **{("RestartPolicy", key): "the daemon's own back-off counts" for key in ("delay", "window")},
    **{("Deploy", key): _PLACING for key in ("mode", "endpoint_mode", "placement")},
    ("Deploy", "rollback_config"): _UPDATES,
    **{
        ("UpdateConfig", key): _UPDATES for key in ("delay", "failure_action", "max_failure_ratio", "monitor")
    },
    ("Deploy", "labels"): "labels of the service are kept",
    **{
        ("Network", key): "the daemon's networks are of one kind"
        for key in ("attachable", "driver", "driver_opts", "enable_ipv4", "enable_ipv6", "ipam")
    },
    ("Volume", "labels"): "volumes of a stack are known by its name before theirs",
    **{("Volume", key): "volumes are disks of the daemon's host" for key in ("driver", "driver_opts")},
    **{
        ("NamedContent", key): "it has no meaning for a VM"
        for key in ("labels", "driver", "driver_opts", "template_driver")
    },
    ("Stack", "version"): "files of every version are read alike",
}
REFUSED: dict[tuple[str, str], str] = {
    ("Service", "provider"): "run the provider by hand, and leave the service out",
    ("Service", "models"): "run the model as a service of its own",
    ("Stack", "models"): "run the model as a service of its own",
    ("Service", "volumes_from"): "name the volumes: a volume has one VM that writes to it",
    ("ServiceVolume", "image"): "copy what it holds into this service's image",
}
# Said without a warning: nothing is lost.
QUIET = frozenset(
    {
        *(("ServiceVolume", key) for key in ("bind", "volume", "consistency")),
        *(("Port", key) for key in ("mode", "name", "app_protocol")),
        *(("Network", key) for key in ("driver", "attachable", "enable_ipv4")),
        ("Stack", "version"),
        ("Volume", "driver"),
        ("Service", "pull_refresh_after"),
    }
)
MODELS: tuple[type[BaseModel], ...] = (
    model.Stack, model.Service, model.Build, model.Port, model.ServiceVolume, model.FileReference, model.FileToRead,
    model.Dependency, model.HealthCheck, model.ServiceNetwork, model.Deploy, model.UpdateConfig, model.DeployResources,
    model.Limits, model.Reservations, model.RestartPolicy, model.VolantOptions, model.Network, model.Volume,
    model.NamedContent, model.Include,
)  # fmt: skip


def find_answer(kind: str, key: str) -> Answer:
    if why := REFUSED.get((kind, key)):
        return Answer(Fate.REFUSED, why)
    if why := LEFT_OUT.get((kind, key)):
        return Answer(Fate.LEFT_OUT, why)
    return Answer(Fate.DONE, "")


def list_fates(stack: Stack) -> list[KeyFate]:
    """Every key that the files have, in their order."""
    return list(_walk(stack, ""))


def list_warnings(stack: Stack) -> list[str]:
    """One a key, whatever number of services has it."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, kind, key in _list_keys(stack, ""):
        if (kind, key) in LEFT_OUT and (kind, key) not in QUIET:
            found.setdefault((kind, key), []).append(place)
    return [f"{', '.join(places)}: left out: {LEFT_OUT[which]}" for which, places in found.items()]


def _walk(value: BaseModel, place: str) -> Iterator[KeyFate]:
    for where, kind, key in _list_keys(value, place):
        answer = find_answer(kind, key)
        yield KeyFate(where, answer.fate, answer.why)


def _list_keys(value: BaseModel, place: str) -> Iterator[tuple[str, str, str]]:
    """(place, model, key) of what was written, without the keys that only hold others."""
    fields = type(value).model_fields
    for key in [name for name in fields if name in value.model_fields_set]:
        inner = getattr(value, key)
        where = f"{place}.{fields[key].alias or key}".lstrip(".")
        parts = list(_list_models(inner, where))
        if not parts and inner not in (None, [], {}):
            yield where, type(value).__name__, key
        for part, part_place in parts:
            written = list(_list_keys(part, part_place))
            yield from written or [(part_place, type(value).__name__, key)]


def _list_models(value: object, place: str) -> Iterator[tuple[BaseModel, str]]:
    if isinstance(value, BaseModel):
        yield value, place
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, BaseModel):
                yield item, f"{place}.{key}"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, BaseModel):
                yield item, f"{place}[{number}]"
