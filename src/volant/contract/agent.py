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
| snapshot.wake | {unix_time_nanoseconds, entropy_base64} | {} — a frozen guest that slept in its host's files goes on |
| clone.become | {guest_config: GuestConfig, entropy_base64} | {} — a frozen copy is that VM now, and goes on |
| resources.online | {} | {} — processors and memory that came to the machine are made use of |
| volume.grow | {serial} | {} — the file system of that volume fills its disk |
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
The subsystem "attach" is the workload's
own standard input, output and error output where it was made with them (`stdin`, `tty`), until it has ended, with its
exit status or signal; `window-change` gives its terminal another size.

On the control connection every login name means root. A session's `env` requests choose otherwise for exec and
shell, and are not passed on: `KESTREL_USER` (name or number, from the guest's own /etc/passwd) and
`KESTREL_WORKING_DIR`. The command of an exec is run by the guest's `/bin/sh -c`; in a guest without a shell it is
split into arguments by POSIX quoting rules, so what `shlex.join` writes means the same in both.

Error codes are JSON-RPC's own, and: 1 not found, 2 wrong state, 3 failed, 4 not supported by this agent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PROTOCOL_VERSIONS = (1,)
USER_VARIABLE = "KESTREL_USER"
WORKING_DIR_VARIABLE = "KESTREL_WORKING_DIR"
GREETING_PREFIX = "kestrel greets "
FORWARD_BIND_ADDRESS = "vsock"
SESSION_SOCKET = "/run/kestrel/ssh.sock"

# A guest is not trusted. Numbers fit a database's column. Texts and lists that are longer than anybody reads are cut
# and not refused: what an agent says of itself stays of use when one reason in it is too long.
MOST_TEXT = 4096
MOST_NAME = 256
MOST_ITEMS = 1000


def _cut(most: int) -> BeforeValidator:
    """Cut to `most`. Halves of characters (JSON can spell them) go too: neither a database nor HTTP takes them."""

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value[:most].encode("utf-8", "replace").decode()
        return value[:most] if isinstance(value, list) else value

    return BeforeValidator(cut)


Text = Annotated[str, _cut(MOST_TEXT)]
Name = Annotated[str, _cut(MOST_NAME)]
Texts = Annotated[list[Text], _cut(MOST_ITEMS)]
Code = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Measure = Annotated[float, Field(allow_inf_nan=False)]

HealthState = Literal["starting", "healthy", "unhealthy", "unknown"]
Phase = Literal["booting", "starting", "running", "stopping", "stopped", "failed"]
ProcessStatus = Literal["waiting", "starting", "running", "backoff", "exited", "stopped", "failed"]


class AgentModel(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class Hello(AgentModel):
    version: Code
    agent_version: Name
    features: Texts = Field(default_factory=list)
    boot_id: Name = ""


class Check(AgentModel):
    """One health check. `reason`: the last failure's, empty while it never failed; `changed_at` RFC 3339."""

    name: Name
    kind: Literal["http", "tcp", "exec"]
    state: HealthState
    reason: Text = ""
    changed_at: Name = ""
    failures: Count = 0


class ProcessState(AgentModel):
    name: Name
    state: ProcessStatus
    pid: Code | None = None
    exit_code: Code | None = None
    signal: Name | None = None
    restarts: Count = 0
    reason: Text = ""
    message: Text = Field("", description="what it left of its end in the file that it was offered")
    started_at: Name | None = None


class CloudInitState(AgentModel):
    status: Literal["none", "running", "done", "error"] = "none"
    by: Literal["", "kestrel", "cloud-init"] = ""
    errors: Texts = Field(default_factory=list)
    unknown_modules: Texts = Field(default_factory=list)


class BootTimes(AgentModel):
    """Guest-side milliseconds since kestrel's first line; `module_load_ms` is the part spent loading modules."""

    module_load_ms: Measure = 0
    main_to_exec_ms: Measure = 0


class AgentState(AgentModel):
    phase: Phase
    reason: Text = Field(
        "", description="why the phase is failed, or what is wrong with the config; empty otherwise"
    )
    health: HealthState = "unknown"
    health_reason: Text = ""
    checks: Annotated[list[Check], _cut(MOST_ITEMS)] = Field(default_factory=list)
    processes: Annotated[list[ProcessState], _cut(MOST_ITEMS)] = Field(default_factory=list)
    cloud_init: CloudInitState = Field(default_factory=CloudInitState)
    addresses: Texts = Field(default_factory=list, description="CIDR, the guest's own, without loopback")
    warnings: Texts = Field(default_factory=list)
    result: Code | None = Field(None, description="exit code of a batch workload that has ended")
    boot: BootTimes = Field(default_factory=BootTimes)
    kernel: Name = ""


class LogQuery(AgentModel):
    """`process` empty: all, with "kestrel" for the agent itself. `cursor`: entries after this one."""

    process: str = ""
    tail: int | None = None
    since: str = ""
    cursor: str = ""
    follow: bool = False


class LogEntry(AgentModel):
    cursor: Annotated[str, Field(max_length=MOST_NAME)]
    time: Name
    process: Name
    stream: Literal["stdout", "stderr", "agent"]
    line: Annotated[str, _cut(1 << 20)]


class AgentStats(AgentModel):
    """Since boot: CPU microseconds used by the guest, memory, root disk and network bytes."""

    uptime_seconds: Measure
    cpu_microseconds: Count
    memory_total_bytes: Count
    memory_used_bytes: Count
    disk_total_bytes: Count
    disk_used_bytes: Count
    network_received_bytes: Count
    network_sent_bytes: Count
    agent_memory_bytes: Count = 0
