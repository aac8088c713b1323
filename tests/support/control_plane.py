# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes control plane for tests: etcd, API server, controller manager and scheduler on loopback.

They are built as tools of two Go modules (tests/kubernetes/control_plane), once for each machine: Go's build cache and
the folder of built programs keep them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.host import CACHE, ROOT

MODULES = ROOT / "tests" / "kubernetes" / "control_plane"
VERSION = "v1.36.3"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl")
BUILD_SECONDS = 3000
READY_SECONDS = 300
# They end with the tests, however these end.
WITH_US = ("setpriv", "--pdeathsig", "KILL")
BOTH_SIDES = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]


def build_programs() -> Path:
    """The folder of the control plane's programs; some four minutes of two cores the first time."""
    digest = hashlib.sha256(
        b"".join((MODULES / name / "go.sum").read_bytes() for name in ("etcd", "kubernetes"))
    )
    folder = CACHE.parent / "kubernetes" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    _build("etcd", folder / "etcd", "go.etcd.io/etcd/server/v3")
    for command in COMMANDS:
        _build("kubernetes", folder / command, f"k8s.io/kubernetes/cmd/{command}")
    return folder


def build_metrics_server() -> Path:
    """The program: it is a module of its own, and built on its own."""
    digest = hashlib.sha256((MODULES / "metrics_server" / "go.sum").read_bytes()).hexdigest()[:16]
    target = CACHE.parent / "kubernetes" / digest / "metrics-server"
    target.parent.mkdir(parents=True, exist_ok=True)
    _build("metrics_server", target, "sigs.k8s.io/metrics-server/cmd/metrics-server")
    return target


def _build(module: str, target: Path, package: str) -> None:
    if target.exists():
        return
    # kubectl stumbles over a version that is not set.
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"
    command = [
        "go",
        "build",
        "-mod=readonly",
        "-trimpath",
        "-ldflags",
        flags,
        "-o",
        f"{target}.part",
        package,
    ]
    done = subprocess.run(
        command, cwd=MODULES / module, capture_output=True, text=True, timeout=BUILD_SECONDS,
        env={**os.environ, "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"},
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"cannot build {package}:\n{done.stderr[-4000:]}")
    Path(f"{target}.part").rename(target)


class Authority:
    """The cluster's CA."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        made = self._begin(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(
            made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        self.key = folder / "ca.key"
        write_key(self.key, self._key)

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=30))
        )  # fmt: skip

    def issue(
        self, file: str, name: str, groups: Sequence[str] = (), addresses: Sequence[str] = (),
        hosts: Sequence[str] = (),
    ) -> tuple[Path, Path]:  # fmt: skip
        """(certificate, key) of a client, or of a server at these addresses and hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [
            *(x509.DNSName(text) for text in ("localhost", *hosts)),
            *(x509.IPAddress(ip_address(text)) for text in addresses),
        ]
        made = (
            self._begin(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(BOTH_SIDES), critical=False).sign(self._key, hashes.SHA256())
        )  # fmt: skip
        certificate, path = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        write_key(path, key)
        return certificate, path


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


class ControlPlane:
    """One cluster without nodes. `prefix`: a command that its programs are run by, as in a namespace of the test's.

    `grace_seconds`: how long a node may be silent. `audits`: keep who asked for what.
    """

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", prefix: Sequence[str] = (), pod_range: str = "",
        *, grace_seconds: int = 20, audits: bool = False,
    ) -> None:  # fmt: skip
        self.programs = build_programs()
        self.folder = folder
        self.address = address
        self.prefix = list(prefix)
        self.authority = Authority(folder)
        self.port = find_free_port()
        self._pod_range = pod_range
        self._grace_seconds = grace_seconds
        self._audits = audits
        self._processes: list[subprocess.Popen[bytes]] = []
        self.kubeconfig = self.make_kubeconfig("admin", "admin", ["system:masters"])

    def make_kubeconfig(self, file: str, name: str, groups: Sequence[str]) -> Path:
        certificate, key = self.authority.issue(file, name, groups)
        text = {
            path: base64.b64encode(path.read_bytes()).decode()
            for path in (self.authority.certificate, certificate, key)
        }
        cluster = {
            "server": f"https://{self.address}:{self.port}",
            "certificate-authority-data": text[self.authority.certificate],
        }
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [
                {"name": "test", "user": {"client-certificate-data": text[certificate], "client-key-data": text[key]}}
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        path = self.folder / f"{file}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def make_node_kubeconfig(self, node: str) -> Path:
        return self.make_kubeconfig(f"node-{node}", f"system:node:{node}", ["system:nodes"])

    def start(self) -> None:
        etcd = find_free_port()
        self._run(
            "etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd}", f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{find_free_port()}", "--log-level=error",
        )  # fmt: skip
        accounts = self.folder / "accounts.key"
        write_key(accounts, rsa.generate_private_key(65537, 2048))
        serving = self.authority.issue(
            "apiserver", "kube-apiserver", addresses=[self.address, "127.0.0.1", "10.96.0.1"]
        )
        kubelet = self.authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
        ca = self.authority.certificate
        front = self.authority.issue("front-proxy", "front-proxy")
        audit = self._make_audit_policy() if self._audits else []
        self._run(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}", f"--bind-address={self.address}",
            f"--secure-port={self.port}", f"--tls-cert-file={serving[0]}", f"--tls-private-key-file={serving[1]}",
            f"--client-ca-file={ca}", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--service-cluster-ip-range=10.96.0.0/16", f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--kubelet-client-certificate={kubelet[0]}", f"--kubelet-client-key={kubelet[1]}",
            f"--kubelet-certificate-authority={ca}", "--kubelet-preferred-address-types=InternalIP",
            "--endpoint-reconciler-type=none", f"--cert-dir={self.folder}/certs", *audit,
            # It hands groups of the API on to other servers, at their endpoints: nobody makes Services for itself.
            "--enable-aggregator-routing=true", f"--requestheader-client-ca-file={ca}",
            "--requestheader-allowed-names=front-proxy", "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front[0]}", f"--proxy-client-key-file={front[1]}",
        )  # fmt: skip
        self._wait_until_ready()
        manager = self.make_kubeconfig("manager", "system:kube-controller-manager", ["system:masters"])
        ranges = [f"--cluster-cidr={self._pod_range}", "--allocate-node-cidrs"] if self._pod_range else []
        self._run(
            "kube-controller-manager", f"--kubeconfig={manager}", "--leader-elect=false", f"--root-ca-file={ca}",
            f"--service-account-private-key-file={accounts}", f"--cluster-signing-cert-file={ca}",
            f"--cluster-signing-key-file={self.authority.key}", "--secure-port=0",
            f"--node-monitor-grace-period={self._grace_seconds}s", "--node-monitor-period=1s", *ranges,
            "--horizontal-pod-autoscaler-sync-period=5s",
        )  # fmt: skip
        scheduler = self.make_kubeconfig("scheduler", "system:kube-scheduler", ["system:masters"])
        self._run("kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0")
        self.wait_for(lambda: self.kubectl("get", "serviceaccount", "default", check=False).returncode == 0)

    def _make_audit_policy(self) -> list[str]:
        """Who asked for what, in audit.log: a line for each request that was answered."""
        policy = self.folder / "audit.json"
        rule = {"level": "Metadata", "omitStages": ["RequestReceived", "ResponseStarted"]}
        policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder}/audit.log"]

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [*self.prefix, *WITH_US, str(self.programs / program), *arguments],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )

    def _wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        certificate, key = self.authority.issue("probe", "probe", ["system:masters"])
        context.load_cert_chain(certificate, key)

        def is_ready() -> bool:
            with (
                suppress(OSError),
                urllib.request.urlopen(
                    f"https://{self.address}:{self.port}/readyz", context=context, timeout=5
                ) as reply,
            ):
                return bool(reply.status == 200)
            return False

        self.wait_for(is_ready)

    def wait_for(self, condition: Any, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for process in self._processes:
                if process.poll() is not None:
                    pytest.fail(f"{process.args!r} ended with {process.returncode}: see {self.folder}")
            if time.monotonic() > deadline:
                pytest.fail(f"not so after {seconds} s: {condition}")
            time.sleep(0.2)

    def kubectl(
        self, *arguments: str, check: bool = True, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            capture_output=True, text=True, input=stdin, timeout=timeout, env={**os.environ, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(
                f"kubectl {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def approve(self, node: str) -> None:
        """Whoever runs the cluster lets the node serve with a certificate of the cluster's own."""

        def is_served() -> bool:
            if names := self.kubectl("get", "csr", "-o", "name").stdout.split():
                self.kubectl("certificate", "approve", *names)
            path = f"/api/v1/nodes/{node}/proxy/healthz"
            return self.kubectl("get", "--raw", path, check=False).stdout == "ok"

        self.wait_for(is_served)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
