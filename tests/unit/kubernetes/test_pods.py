# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from typing import Any

import pytest
from lightkube.resources.core_v1 import Pod

from support.fake_cluster import make_pod, read_pod
from volant.kubernetes.pods import check_pod, make_request, name_vm
from volant.kubernetes.references import (
    Found,
    Missing,
    Reference,
    Refused,
    TokenRequest,
    list_claims,
    list_references,
    list_tokens,
)

UID = "0f3d2b1a-1111-2222-3333-444455556666"


def ask(pod: Pod, found: Found | None = None, pod_ip: str = "10.1.0.2") -> dict[str, Any]:
    check_pod(pod)
    return dict(
        make_request(
            pod, found or Found(), "web:1.0.0", node="host-1", pod_ip=pod_ip, host_ip="192.0.2.1", port=80
        )
    )


def test_a_vm_is_called_as_no_other_pods() -> None:
    assert name_vm(make_pod()) == "shop-web-0f3d2b1a"
    long = read_pod(
        {
            "metadata": {"name": "a.b" * 60, "namespace": "n", "uid": UID},
            "spec": {"containers": [{"name": "c"}]},
        }
    )
    assert len(name_vm(long)) <= 63
    assert ask(long)["hostname"] == ("a.b" * 60)[:63]
    dashed = read_pod(
        {"metadata": {"name": f"{'a' * 61}--b", "uid": UID}, "spec": {"containers": [{"name": "c"}]}}
    )
    assert ask(dashed)["hostname"] == "a" * 61


def test_a_pod_says_who_it_is_what_it_may_use_and_where_it_answers() -> None:
    pod = make_pod(
        resources={
            "requests": {"cpu": "250m", "memory": "100Mi"},
            "limits": {"cpu": "1500m", "memory": "1Gi"},
        },
        ports=[{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
    )
    request = ask(pod)
    assert request["labels"] == {
        "volant.kubernetes.node": "host-1", "volant.kubernetes.uid": UID, "volant.kubernetes.pod": "shop/web",
    }  # fmt: skip
    assert request["resources"] == {"vcpu": 2, "memory_mb": 1024, "nested": False}
    assert request["publish"] == [
        {"host_ip": "10.1.0.2", "host_port": 80, "guest_port": 80, "protocol": "tcp"},
        {"host_ip": "10.1.0.2", "host_port": 53, "guest_port": 53, "protocol": "udp"},
    ]
    assert (request["restart"], request["run_once"]) == ("always", False)


@pytest.mark.parametrize(
    ("policy", "restart", "once"),
    [("Always", "always", False), ("OnFailure", "on-failure", True), ("Never", "no", True)],
)
def test_a_restart_policy_is_the_vms(policy: str, restart: str, once: bool) -> None:
    request = ask(make_pod({"restartPolicy": policy}))
    assert (request["restart"], request["run_once"]) == (restart, once)


def test_command_and_arguments_are_the_images_as_kubernetes_has_them() -> None:
    env = [{"name": "WHO", "value": "world"}]
    assert ask(make_pod(command=["echo"], args=["$(WHO)", "$$(WHO)", "$(NONE)"], env=env))["entrypoint"] == [
        "echo", "world", "$(WHO)", "$(NONE)",
    ]  # fmt: skip
    request = ask(make_pod(args=["-v"]))
    assert request["command"] == ["-v"]
    assert "entrypoint" not in request


def test_variables_come_from_everywhere_and_later_ones_win() -> None:
    pod = make_pod(
        envFrom=[{"prefix": "A_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
        env=[
            {"name": "A_COLOUR", "value": "green"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {
                "name": "MEMORY",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
            },
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
            {
                "name": "MAYBE",
                "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}},
            },
            {"name": "BOTH", "value": "$(NAME)-$(A_COLOUR)"},
        ],
        resources={"limits": {"memory": "64Mi"}},
    )
    settings, keys = Reference("ConfigMap", "settings"), Reference("Secret", "keys")
    assert list_references(pod) == {settings, keys, Reference("ConfigMap", "none")}
    found = Found({settings: {"COLOUR": b"red", "SIZE": b"9"}, keys: {"token": b"t"}})
    assert ask(pod, found)["env"] == {
        "A_COLOUR": "green", "A_SIZE": "9", "token": "t", "NAME": "web", "APP": "web", "MEMORY": "64", "TOKEN": "t",
        "BOTH": "web-green",
    }  # fmt: skip


def test_what_is_not_there_yet_is_waited_for() -> None:
    pod = make_pod(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}])
    with pytest.raises(Missing, match="ConfigMap settings"):
        ask(pod)
    with pytest.raises(Missing, match="no key a"):
        ask(pod, Found({Reference("ConfigMap", "settings"): {}}))


def test_volumes_are_files_before_the_workload_starts() -> None:
    spec = {
        "volumes": [
            {"name": "settings", "configMap": {
                "name": "settings", "items": [{"key": "a", "path": "deep/b", "mode": 256}],
            }},
            {"name": "account", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
            {"name": "unused", "secret": {"secretName": "other"}},
        ]
    }  # fmt: skip
    mounts = [{"name": "settings", "mountPath": "/etc/app"}, {"name": "account", "mountPath": "/run/account"}]
    pod = make_pod(spec, volumeMounts=mounts)
    assert list_references(pod) == {Reference("ConfigMap", "settings")}
    assert list_tokens(pod) == {TokenRequest("", 600)}
    found = Found({Reference("ConfigMap", "settings"): {"a": b"\0\xff"}}, {TokenRequest("", 600): "ey.J.h"})
    files = [
        (file["path"], file["kind"], file["mode"], base64.b64decode(file["content_base64"]))
        for file in ask(pod, found)["files"]
    ]
    assert files == [
        ("/etc/app", "memory", 0o755, b""), ("/run/account", "memory", 0o755, b""),
        ("/etc/app/deep/b", "file", 0o400, b"\0\xff"), ("/run/account/token", "file", 0o644, b"ey.J.h"),
        ("/run/account/ns", "file", 0o644, b"shop"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "container", "reason"),
    [
        ({"initContainers": [{"name": "first"}]}, {}, "UnsupportedInitContainers"),
        ({"hostNetwork": True}, {}, "UnsupportedHostNamespace"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, {}, "UnsupportedVolume"),
        ({}, {"securityContext": {"privileged": True}}, "UnsupportedSecurityContext"),
        ({}, {"securityContext": {"readOnlyRootFilesystem": True}}, "UnsupportedSecurityContext"),
        (
            {"securityContext": {"sysctls": [{"name": "a", "value": '1" b="'}]}},
            {},
            "UnsupportedSecurityContext",
        ),
        ({}, {"livenessProbe": {"grpc": {"port": 80}}}, "UnsupportedProbe"),
        ({}, {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}}, "UnsupportedLifecycle"),
        ({}, {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}, "UnsupportedVolume"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
            "UnsupportedVolume",
        ),
    ],
)
def test_what_no_vm_can_be_is_refused_by_name(
    spec: dict[str, Any], container: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        check_pod(make_pod(spec, **container))
    assert refused.value.reason == reason


def test_two_containers_are_refused() -> None:
    with pytest.raises(Refused, match="has 2"):
        check_pod(make_pod({"containers": [{"name": "a"}, {"name": "b"}]}))


def test_the_workload_is_who_and_where_the_pod_says() -> None:
    probe = {"exec": {"command": ["pg_isready"]}, "periodSeconds": 5}
    security = {"runAsUser": 1000, "runAsGroup": 1001}
    request = ask(
        make_pod(
            {"hostname": "db", "securityContext": {"runAsUser": 7}, "terminationGracePeriodSeconds": 20},
            workingDir="/srv", securityContext=security, readinessProbe=probe,
        )
    )  # fmt: skip
    assert (request["working_dir"], request["user"], request["hostname"]) == ("/srv", "1000:1001", "db")
    assert request["stop_timeout_seconds"] == 20
    assert request["health_check"]["test"] == ["NONE"], "the node probes, not the plugin"
    assert ask(make_pod({"securityContext": {"runAsUser": 7}}))["user"] == "7"
    groups = {
        "fsGroup": 5,
        "supplementalGroups": [6, 5],
        "sysctls": [{"name": "kernel.shmmni", "value": "99 1"}],
    }
    request = ask(make_pod({"securityContext": groups}))
    assert (request["groups"], request["kernel_arguments"]) == ([5, 6], 'sysctl.kernel.shmmni="99 1"')
    aliases = [{"ip": "192.0.2.7", "hostnames": ["db", "db.example"]}]
    assert ask(make_pod({"hostAliases": aliases}))["extra_hosts"] == {
        "db": "192.0.2.7",
        "db.example": "192.0.2.7",
    }
    liveness = {"httpGet": {"port": 80}}
    assert ask(make_pod(livenessProbe=liveness))["health_check"]["test"] == ["OWN"]
    assert "health_check" not in ask(make_pod(livenessProbe=liveness, ports=[{"containerPort": 80}]))


def test_claims_are_mounted_as_the_volumes_that_they_are_bound_to() -> None:
    spec = {
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "shop-data"}},
            {"name": "old", "persistentVolumeClaim": {"claimName": "shop-old", "readOnly": True}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "unused", "persistentVolumeClaim": {"claimName": "nobodys"}},
        ]
    }
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("data", "old", "scratch")]
    pod = make_pod(spec, volumeMounts=mounts)
    assert list_claims(pod) == {"shop-data": False, "shop-old": False, "web-scratch": True}
    bound = {claim: f"pvc-{claim}" for claim in list_claims(pod)}
    assert ask(pod, Found(volumes=bound))["volumes"] == [
        {"name": "pvc-shop-data", "target": "/data", "read_only": False},
        {"name": "pvc-shop-old", "target": "/old", "read_only": True},
        {"name": "pvc-web-scratch", "target": "/scratch", "read_only": False},
    ]


def test_a_workload_has_input_and_terminal_where_the_pod_says_so() -> None:
    request = ask(make_pod(stdin=True, stdinOnce=True, tty=True))
    assert (request["stdin"], request["stdin_once"], request["tty"]) == (True, True, True)
    assert not {"stdin", "stdin_once", "tty"} & set(ask(make_pod()))
