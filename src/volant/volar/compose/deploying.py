# SPDX-License-Identifier: Apache-2.0
"""A service with replicas as a deployment: what it is asked for, and how far it is."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from volant.errors import GuestFailed
from volant.volar.client import Client
from volant.volar.compose.networks import PROJECT_LABEL
from volant.volar.compose.planning import Act
from volant.volar.compose.requests import DIGEST_LABEL, SERVICE_LABEL, ServiceRequest
from volant.volar.deployment_watch import describe_progress, find_problem, suggest

if TYPE_CHECKING:
    from volant.contract.api_types import Deployment, DeploymentUpdate, UpdatePolicyRequest, VmTemplate

# As Compose has them.
USUAL_INTERVAL_SECONDS, USUAL_RETRIES = 30.0, 3
LEAST_HEALTHY_SECONDS = 120.0
AGAIN_LABEL = "volant.compose.again"


def make_template(request: ServiceRequest, plugin: str, *, is_forced: bool = False) -> VmTemplate:
    """`is_forced`: one that differs, though what is asked for does not."""
    body = {key: value for key, value in request.body.items() if key != "publish"}
    labels = {**request.body["labels"], DIGEST_LABEL: request.digest(plugin)}
    if is_forced:
        labels[AGAIN_LABEL] = secrets.token_hex(4)
    return cast("VmTemplate", {**body, "plugin": plugin, "labels": labels})


def make_policy(request: ServiceRequest) -> UpdatePolicyRequest:
    """What `deploy.update_config` says; without it a new VM is there before an old one goes."""
    policy: UpdatePolicyRequest = {"healthy_seconds": find_healthy_seconds(request)}
    if (config := request.service.deploy.update_config) is not None:
        count = config.parallelism or max(1, request.replicas)
        is_start_first = config.order == "start-first"
        policy["max_surge"] = count if is_start_first else 0
        policy["max_unavailable"] = 0 if is_start_first else count
    return policy


def find_healthy_seconds(request: ServiceRequest) -> float:
    """Until a new VM has to be ready: as long as its check may take to say that it is not."""
    check = request.service.healthcheck
    if check is None:
        return LEAST_HEALTHY_SECONDS
    tries = (check.retries or USUAL_RETRIES) * (check.interval or USUAL_INTERVAL_SECONDS)
    return max(LEAST_HEALTHY_SECONDS, (check.start_period or 0.0) + tries)


def ask_for(
    client: Client, act: Act, name: str, request: ServiceRequest, plugin: str, *, is_forced: bool
) -> None:
    if act is Act.SCALE:
        client.update_deployment(name, {"replicas": request.replicas})
        return
    labels = {key: request.body["labels"][key] for key in (PROJECT_LABEL, SERVICE_LABEL)}
    wanted: dict[str, Any] = {
        "replicas": request.replicas,
        "vm": make_template(request, plugin, is_forced=is_forced),
        "publish": request.body["publish"],
        "update": make_policy(request),
        "labels": {**labels, DIGEST_LABEL: request.digest(plugin)},
    }
    if act is Act.DEPLOY:
        client.create_deployment(cast("Any", {"name": name, **wanted}))
    else:
        client.update_deployment(name, cast("DeploymentUpdate", wanted))


def is_made(deployment: Deployment, act: Act) -> bool:
    """Whether its VMs are there and no others, after an update ready. GuestFailed where that was undone."""
    if deployment["status"] == "rolled-back":
        raise GuestFailed(find_problem(deployment), resolution=suggest(deployment))
    if act is Act.UPDATE or deployment["status"] != "progressing":
        return deployment["status"] != "progressing"
    return deployment["updated"] >= deployment["replicas"] >= len(deployment["vms"])


def is_ready(deployment: Deployment, condition: str, waits: str) -> bool:
    """As `doing.is_met`, of a service that another one depends on."""
    if condition == "service_started":
        return deployment["updated"] >= deployment["replicas"]
    if deployment["status"] in ("degraded", "rolled-back"):
        raise GuestFailed(f"{waits} was not started: {find_problem(deployment)}")
    return deployment["status"] == "ready"


__all__ = ["ask_for", "describe_progress", "is_made", "is_ready"]
