# SPDX-License-Identifier: Apache-2.0
"""Pods of a real cluster as VMs of this host: scheduled, told of, reached, ended, and never doubled."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.busybox_web import PAGE
from support.control_plane import ControlPlane
from support.host import Host, fetch, wait_until
from support.kubectl import start_kubectl
from support.node_agent import NODE, Agent
from support.pods import OFTEN, find_container, make_pod, wait_ready


def test_a_host_becomes_a_node(control_plane: ControlPlane, agent: Agent) -> None:
    control_plane.wait_for(lambda: control_plane.kubectl("get", "node", NODE, check=False).returncode == 0)
    control_plane.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s")
    node = control_plane.get("node", NODE)
    assert node["spec"]["taints"][0]["key"] == "virtual-kubelet.io/provider"
    assert node["status"]["capacity"]["pods"] == "110"
    lease = control_plane.get("lease", NODE, "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == NODE


def test_a_pod_is_a_vm(control_plane: ControlPlane, agent: Agent, host: Host) -> None:
    control_plane.kubectl("create", "configmap", "settings", "--from-literal=greeting=hello")
    container = {
        "command": [
            "/bin/busybox",
            "sh",
            "-c",
            "echo began; busybox grep Groups /proc/self/status; exec busybox httpd -f -v -p 80 -h /www",
        ],
        "startupProbe": {"tcpSocket": {"port": "http"}, "failureThreshold": 100, **OFTEN},
        "readinessProbe": {"httpGet": {"port": 80, "path": "/ready.html"}, "failureThreshold": 1, **OFTEN},
        "livenessProbe": {"exec": {"command": ["sh", "-c", "! test -e /run/stuck"]}, **OFTEN},
        "env": [
            {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "BOTH", "value": "$(GREETING) from $(POD)"},
        ],
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("settings", "scratch", "fast")],
    }
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}},
        {"name": "fast", "emptyDir": {"medium": "Memory"}},
    ]  # fmt: skip
    security = {"fsGroup": 1001, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}
    pod = make_pod("web", container=container, volumes=volumes, securityContext=security)
    control_plane.kubectl("apply", "-f", "-", stdin=pod)
    control_plane.kubectl(
        "wait", "--for=jsonpath={.status.containerStatuses[0].started}=true", "pod/web", "--timeout=400s", timeout=420
    )  # fmt: skip
    pod = control_plane.get("pod", "web")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("10.99.")
    assert not pod["status"]["containerStatuses"][0]["ready"], "its page is not there yet"
    control_plane.kubectl("exec", "web", "--", "touch", "/www/ready.html")
    wait_ready(control_plane, "web")
    (vm,) = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    assert vm["labels"]["volant.kubernetes.pod"] == "default/web"
    said = control_plane.kubectl(
        "exec", "web", "--", "sh", "-c", "echo $BOTH; cat /settings/greeting; wget -qO- 127.0.0.1"
    )
    assert said.stdout == f"hello from web\nhello{PAGE}"
    failed = control_plane.kubectl("exec", "web", "--", "sh", "-c", "echo no >&2; exit 7", check=False)
    assert failed.returncode == 7
    assert "no" in failed.stderr
    copied = control_plane.kubectl("exec", "-i", "web", "--", "cat", stdin="given\n")
    assert copied.stdout == "given\n"
    token = control_plane.kubectl(
        "exec", "web", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )
    assert token.stdout.count(".") == 2


def test_volumes_services_and_the_kernel_are_as_the_pod_says(
    control_plane: ControlPlane, agent: Agent
) -> None:
    """Of the pod of the test before."""

    def tell(script: str, *, check: bool = True) -> str:
        return control_plane.kubectl("exec", "web", "--", "sh", "-c", script, check=check).stdout

    modes = "busybox stat -c '%A %g' /scratch /fast /settings /settings/greeting"
    assert tell(modes).splitlines() == [
        "drwxrwsrwx 1001", "drwxrwsrwx 1001", "drwxr-sr-x 1001", "-rw-r--r-- 1001",
    ]  # fmt: skip
    assert (
        tell("busybox stat -f -c %T /scratch /fast; ls -A /scratch /fast | busybox wc -w")
        == "ext2/ext3\ntmpfs\n2\n"
    )
    assert "Groups:\t1001" in control_plane.kubectl("logs", "web").stdout
    assert tell("cat /proc/sys/kernel/shm_rmid_forced; echo $KUBERNETES_PORT") == "1\ntcp://10.96.0.1:443\n"
    control_plane.kubectl(
        "patch", "configmap", "settings", "-p", '{"data": {"greeting": "bye", "more": "yes"}}'
    )
    wait_until(
        "files follow", lambda: tell("cat /settings/greeting /settings/more", check=False) == "byeyes", 120
    )


def test_people_reach_in_with_kubectl(control_plane: ControlPlane, agent: Agent, tmp_path: Path) -> None:
    assert "began\n" in control_plane.kubectl("logs", "web", "--since=1h").stdout
    assert control_plane.kubectl("logs", "web", "--tail=0").stdout == ""
    with (
        start_kubectl(control_plane, "logs", "-f", "--tail=0", "web") as logs,
        start_kubectl(control_plane, "attach", "web") as attached,
        start_kubectl(control_plane, "port-forward", "pod/web", ":80") as forward,
    ):
        port = forward.wait_for(r"Forwarding from 127.0.0.1:(\d+)")
        wait_until("the page through the forward", lambda: fetch(f"http://127.0.0.1:{port}/") == PAGE)
        for reading in (logs, attached):
            # Each page that is asked for is a line, and whoever came late sees the next one.
            wait_until(
                "a line",
                lambda reading=reading: fetch(f"http://127.0.0.1:{port}/") and reading.find("response:200"),
            )
    with start_kubectl(control_plane, "attach", "-i", "web") as typing:
        typing.wait_for("no standard input")
    given = tmp_path / "given"
    given.write_bytes(bytes(range(256)) * 500)
    control_plane.kubectl("cp", str(given), "web:/root/given")
    control_plane.kubectl("cp", "web:/root/given", str(tmp_path / "taken"))
    assert (tmp_path / "taken").read_bytes() == given.read_bytes()
    with start_kubectl(control_plane, "exec", "-it", "web", "--", "sh", terminal=True) as shell:
        shell.write("tty; echo $((6 * 7)); exit 3\n")
        shell.wait_for(r"/dev/pts/\d+")
        shell.wait_for("42")
        assert shell.wait() == 3
    measures = control_plane.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics/resource").stdout
    (memory,) = re.findall(
        r'^pod_memory_working_set_bytes{namespace="default",pod="web"} (\S+)', measures, re.M
    )
    assert float(memory) > 1 << 24
    assert re.search(
        r'^container_cpu_usage_seconds_total{container="web",namespace="default",pod="web"}', measures, re.M
    )


def test_a_pods_own_workload_has_a_terminal(control_plane: ControlPlane, agent: Agent) -> None:
    container = json.loads(make_pod("shell"))["spec"]
    kept = {
        name: container[name] for name in ("nodeSelector", "tolerations", "terminationGracePeriodSeconds")
    }
    line = [
        "run", "shell", "-it", "--rm", "--restart=Never", "--image=web:1.0.0", "--pod-running-timeout=5m",
        f"--overrides={json.dumps({'spec': kept})}", "--", "sh",
    ]  # fmt: skip
    with start_kubectl(control_plane, *line, terminal=True) as shell:
        shell.wait_for("# ", 400)
        shell.write("tty; echo $((6 * 7)); exit 3\n")
        shell.wait_for(r"/dev/pts/\d+")
        shell.wait_for("42")
        assert shell.wait() == 3
    assert control_plane.kubectl("get", "pod", "shell", check=False).returncode


def test_probes_gate_and_restart(control_plane: ControlPlane, agent: Agent) -> None:
    control_plane.kubectl("exec", "web", "--", "rm", "/www/ready.html")
    wait_ready(control_plane, "web", ready=False)
    control_plane.kubectl("exec", "web", "--", "touch", "/www/ready.html", "/run/stuck")
    control_plane.wait_for(lambda: find_container(control_plane, "web")["restartCount"] == 1, 400)
    wait_ready(control_plane, "web")
    container = find_container(control_plane, "web")
    assert container["restartCount"] == 1
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert ended["message"].startswith("failed liveness probe: exit status 1")
    before = control_plane.kubectl("logs", "--previous", "web").stdout
    assert "began\n" in before
    assert "response:200" in before
    assert control_plane.kubectl("logs", "web").stdout.count("began\n") == 1
    events = control_plane.get("events", "--field-selector=involvedObject.name=web")["items"]
    assert {"Scheduled", "Started", "Unhealthy", "Killing"} <= {event["reason"] for event in events}


def test_killed_at_any_time_it_finds_its_pods_again(
    control_plane: ControlPlane, agent: Agent, host: Host
) -> None:
    before = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    agent.kill()
    control_plane.kubectl("apply", "-f", "-", stdin=make_pod("late"))
    agent.start()
    wait_ready(control_plane, "late")
    after = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    assert {vm["id"] for vm in before} < {vm["id"] for vm in after}
    assert len(after) == len(before) + 1


def test_what_no_vm_can_be_is_refused_by_name(control_plane: ControlPlane, agent: Agent) -> None:
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    control_plane.kubectl("apply", "-f", "-", stdin=make_pod("outside", volumes=volumes))
    control_plane.wait_for(lambda: control_plane.get("pod", "outside")["status"].get("phase") == "Failed")
    status = control_plane.get("pod", "outside")["status"]
    assert status["reason"] == "UnsupportedVolume"
    assert "host" in status["message"]


def test_what_goes_wrong_is_called_as_people_know_it(control_plane: ControlPlane, agent: Agent) -> None:
    absent = {"image": "127.0.0.1:1/absent:1.0.0"}
    hungry = {"command": ["/bin/busybox", "tail", "/dev/zero"], "ports": []}
    for name, container in (("absent", absent), ("hungry", hungry)):
        control_plane.kubectl("apply", "-f", "-", stdin=make_pod(name, container=container))

    def find_reasons(name: str) -> tuple[str, str]:
        """Of its wait, and of the end before."""
        for one in control_plane.get("pod", name)["status"].get("containerStatuses", []):
            last = one.get("lastState", {}).get("terminated", {})
            return one["state"].get("waiting", {}).get("reason", ""), last.get("reason", "")
        return "", ""

    control_plane.wait_for(lambda: find_reasons("absent") == ("ImagePullBackOff", ""))
    control_plane.wait_for(lambda: find_reasons("hungry") == ("CrashLoopBackOff", "OOMKilled"), 400)
    assert find_container(control_plane, "hungry")["lastState"]["terminated"]["exitCode"] == 137
    control_plane.kubectl("delete", "pod", "absent", "hungry", "--wait=false")


def test_a_job_ends_with_its_exit_code(control_plane: ControlPlane, agent: Agent) -> None:
    container = {"command": ["/bin/busybox", "sh", "-c", "echo done it; exit 3"], "ports": []}
    control_plane.kubectl(
        "apply", "-f", "-", stdin=make_pod("task", container=container, restartPolicy="Never")
    )
    control_plane.wait_for(lambda: control_plane.get("pod", "task")["status"].get("phase") == "Failed", 400)
    (status,) = control_plane.get("pod", "task")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 3
    assert "done it" in control_plane.kubectl("logs", "task").stdout


def test_deleted_pods_leave_nothing(control_plane: ControlPlane, agent: Agent, host: Host) -> None:
    control_plane.kubectl("delete", "pod", "--all", "--wait=true", "--timeout=300s", timeout=320)
    control_plane.wait_for(lambda: json.loads(host.volar("vms", "list", "-o", "json").stdout) == [])
