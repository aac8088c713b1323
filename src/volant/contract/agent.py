# SPDX-License-Identifier: Apache-2.0
"""The control protocol between volantd and kestrel, version 1.

Transport: the SSH subsystem "control" on the control stream; JSON-RPC 2.0, one message a line (UTF-8, at most
1 MiB). volantd calls, kestrel answers, and sends notifications for what it was asked to tell. The first call is
`hello`; the highest version that both know is spoken. Fields that a side does not know are ignored.

| method | params | result |
|---|---|---|
| hello | {versions: [int], host_version: str} | Hello |
| state.get | {} | AgentState |
| events.subscribe | {} | {} and then a notification `state` {state: AgentState} at every change (coalesced) |
| logs.read | LogQuery | {cursor}; entries come before it (see below) |
| logs.cancel | {id} | {} |
| stats.get | {} | AgentStats |
| settings.apply | {health_check?, workload_env?} | {} |
| ssh.authorize | {public_key, ttl_seconds} | {host_key: public key} — for sessions by `volar vms ssh` |
| hooks.run | {name: pre_start | post_stop | post_restore} | {exit_code} |
| process.restart / process.stop / process.start | {name} | {} |
| clock.set | {unix_time_nanoseconds} | {} |
| snapshot.freeze / snapshot.thaw | {} | {} — processes stand still and file systems are whole on their disks |
| clone.become | {guest_config: GuestConfig, entropy_base64} | {} — a frozen copy is that VM now, and goes on |
| power.stop | {action: poweroff | reboot, deadline_seconds} | {} — the answer means "begun" |

Entries of `logs.read` come as notifications `log` {id, entries: [LogEntry]}; with `follow` the result comes when
the call is cancelled or the stream ends.

The keys in a `guest_config` of clone.become count from the next connection on.

Before its own identification the agent repeats the one that the host sent (RFC 4253, 4.2: "SSH-2.0-..." and CR LF) on
a line that begins with GREETING_PREFIX. What comes before that line was meant for an earlier host and is to be dropped.

Besides `control` the same connection serves: exec, shell, pty-req, window-change, signal, env, SFTP;
`direct-tcpip` to addresses in the guest (the special host name "workload" means the workload's own address);
`direct-streamlocal@openssh.com` to /run/kestrel/ssh.sock, which is kestrel's SSH server for people's sessions
(so a real `ssh` client talks to it end to end through volantd); and `tcpip-forward` with bind address "vsock"
and a port: connections to CID 2 at this port come back as `forwarded-tcpip` channels (secrets).

On the control connection every login name means root. A session's `env` requests choose otherwise for exec and
shell, and are not passed on: `KESTREL_USER` (name or number, from the guest's own /etc/passwd) and
`KESTREL_WORKING_DIR`. The command of an exec is run by the guest's `/bin/sh -c`; in a guest without a shell it is
split into arguments by POSIX quoting rules, so what `shlex.join` writes means the same in both.

Error codes are JSON-RPC's own, and: 1 not found, 2 wrong state, 3 failed, 4 not supported by this agent.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSIONS = (1,)
USER_VARIABLE = "KESTREL_USER"
WORKING_DIR_VARIABLE = "KESTREL_WORKING_DIR"
GREETING_PREFIX = "kestrel greets "
FORWARD_BIND_ADDRESS = "vsock"
SESSION_SOCKET = "/run/kestrel/ssh.sock"

HealthState = Literal["starting", "healthy", "unhealthy", "unknown"]
Phase = Literal["booting", "starting", "running", "stopping", "stopped", "failed"]
ProcessStatus = Literal["waiting", "starting", "running", "backoff", "exited", "stopped", "failed"]


class AgentModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Hello(AgentModel):
    version: int
    agent_version: str
    features: list[str] = Field(default_factory=list)
    boot_id: str = ""


class Check(AgentModel):
    """One health check. `reason`: the last failure's, empty while it never failed; `changed_at` RFC 3339."""

    name: str
    kind: Literal["http", "tcp", "exec"]
    state: HealthState
    reason: str = ""
    changed_at: str = ""
    failures: int = 0


class ProcessState(AgentModel):
    name: str
    state: ProcessStatus
    pid: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    restarts: int = 0
    reason: str = ""
    started_at: str | None = None


class CloudInitState(AgentModel):
    status: Literal["none", "running", "done", "error"] = "none"
    by: Literal["", "kestrel", "cloud-init"] = ""
    errors: list[str] = Field(default_factory=list)
    unknown_modules: list[str] = Field(default_factory=list)


class BootTimes(AgentModel):
    """Guest-side milliseconds since kestrel's first line; `module_load_ms` is the part spent loading modules."""

    module_load_ms: float = 0
    main_to_exec_ms: float = 0


class AgentState(AgentModel):
    phase: Phase
    reason: str = Field(
        "", description="why the phase is failed, or what is wrong with the config; empty otherwise"
    )
    health: HealthState = "unknown"
    health_reason: str = ""
    checks: list[Check] = Field(default_factory=list)
    processes: list[ProcessState] = Field(default_factory=list)
    cloud_init: CloudInitState = Field(default_factory=CloudInitState)
    addresses: list[str] = Field(default_factory=list, description="CIDR, the guest's own, without loopback")
    warnings: list[str] = Field(default_factory=list)
    result: int | None = Field(None, description="exit code of a batch workload that has ended")
    boot: BootTimes = Field(default_factory=BootTimes)
    kernel: str = ""


class LogQuery(AgentModel):
    """`process` empty: all, with "kestrel" for the agent itself. `cursor`: entries after this one."""

    process: str = ""
    tail: int | None = None
    since: str = ""
    cursor: str = ""
    follow: bool = False


class LogEntry(AgentModel):
    cursor: str
    time: str
    process: str
    stream: Literal["stdout", "stderr", "agent"]
    line: str


class AgentStats(AgentModel):
    """Since boot: CPU microseconds used by the guest, memory, root disk and network bytes."""

    uptime_seconds: float
    cpu_microseconds: int
    memory_total_bytes: int
    memory_used_bytes: int
    disk_total_bytes: int
    disk_used_bytes: int
    network_received_bytes: int
    network_sent_bytes: int
    agent_memory_bytes: int = 0
