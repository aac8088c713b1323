// SPDX-License-Identifier: Apache-2.0
// How a VM is and why: what is wrong, how its boot went, processes, checks, facts.
import { get, quoted } from "../api";
import type { BootStep, Boot as BootTimes, Check, ProcessState, Vm } from "../api_types";
import { Status, useLoaded } from "../parts";
import { isUp, plainLine, secondsSince, showPort, showSpan, type Tone } from "../words";
import { Address } from "./vms";

export function Overview({ vm }: { vm: Vm }) {
  return (
    <div class="overview">
      <Why vm={vm} />
      <div>
        <Boot vm={vm} />
        {vm.checks.length > 0 && <Checks checks={vm.checks} />}
        {vm.processes.length > 0 && <Processes processes={vm.processes} />}
      </div>
      <Facts vm={vm} />
    </div>
  );
}

/** What is wrong, in the daemon's words, with the lines that go with it. */
function Why({ vm }: { vm: Vm }) {
  const reasons = [vm.status_reason, vm.health_reason].filter(Boolean);
  for (const process of vm.processes)
    if (["backoff", "failed"].includes(process.state)) reasons.push(`${process.name}: ${process.reason || describeEnd(process)}`);
  const trouble = vm.status === "failed" || vm.health === "unhealthy";
  const notes = [...vm.warnings, ...vm.cloud_init.errors, ...vm.pending.map((name) => `${name}: changed, and counts from the next start`)];
  if (!trouble && !reasons.length && !notes.length) return null;
  return (
    <section class={`callout ${trouble ? "bad" : "warn"}`} aria-label="Why">
      <p class="what">{trouble ? (vm.status === "failed" ? "This VM failed" : "Its workload is not healthy") : "Worth knowing"}</p>
      <ul>
        {[...new Set([...reasons, ...notes])].map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
      {vm.last_console_lines.length > 0 && <pre tabIndex={0}>{vm.last_console_lines.map(plainLine).join("\n")}</pre>}
      {trouble && <a href={`#/vms/${quoted(vm.name)}/logs`}>See its logs</a>}
    </section>
  );
}

const STEPS: Record<BootStep["name"], string> = {
  disk: "disk ready",
  machine: "machine started",
  agent: "agent answers",
  running: "running",
  healthy: "healthy",
};

function Boot({ vm }: { vm: Vm }) {
  const { value } = useLoaded(() => get<BootTimes>(`/vms/${quoted(vm.name)}/boot`), [vm.id, vm.started_at, vm.status, vm.health, vm.agent.connected]);
  if (!value?.steps.length) return null;
  const whole = Math.max(...value.steps.map((step) => step.seconds), 0.001);
  return (
    <section>
      <h2>Boot</h2>
      <ol class="timeline">
        {value.steps.map((step, index) => {
          const from = index ? (value.steps[index - 1]?.seconds ?? 0) : 0;
          return (
            <li key={step.name}>
              <span class="step">{STEPS[step.name]}</span>
              <span class="track" aria-hidden="true">
                <span class="span" style={{ left: `${(from / whole) * 100}%`, width: `${(Math.max(step.seconds - from, whole / 100) / whole) * 100}%` }} />
              </span>
              <span class="number">{step.seconds.toFixed(2)} s</span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

const CHECK_TONES: Record<Check["state"], Tone> = { healthy: "good", unhealthy: "bad", starting: "busy", unknown: "idle" };

function Checks({ checks }: { checks: Check[] }) {
  return (
    <section>
      <h2>Health checks</h2>
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Check</th>
            <th scope="col">State</th>
            <th scope="col">Last failure</th>
          </tr>
        </thead>
        <tbody>
          {checks.map((check) => (
            <tr key={check.name}>
              <th scope="row">
                {check.name} <span class="quiet">{check.kind}</span>
              </th>
              <td data-label="State">
                <Status tone={CHECK_TONES[check.state]}>{check.state}</Status>
              </td>
              <td data-label="Last failure">{check.reason ? `${check.reason}${check.failures ? ` (${check.failures} in a row)` : ""}` : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function describeEnd(process: ProcessState): string {
  if (process.signal) return `ended by ${process.signal}`;
  return process.exit_code === null ? process.state : `ended with exit code ${process.exit_code}`;
}

const PROCESS_TONES: Record<ProcessState["state"], Tone> = { running: "good", waiting: "busy", starting: "busy", backoff: "bad", failed: "bad", exited: "idle", stopped: "idle" };

function Processes({ processes }: { processes: ProcessState[] }) {
  return (
    <section>
      <h2>Processes</h2>
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Process</th>
            <th scope="col">State</th>
            <th scope="col">PID</th>
            <th scope="col">Restarts</th>
            <th scope="col">Since</th>
          </tr>
        </thead>
        <tbody>
          {processes.map((process) => (
            <tr key={process.name}>
              <th scope="row">{process.name}</th>
              <td data-label="State">
                <Status tone={PROCESS_TONES[process.state]}>{process.state === "running" ? "running" : describeEnd(process)}</Status>
              </td>
              <td data-label="PID" class="number">
                {process.pid ?? "–"}
              </td>
              <td data-label="Restarts" class="number">
                {process.restarts}
              </td>
              <td data-label="Since" class="number">
                {process.started_at ? showSpan(secondsSince(process.started_at)) : "–"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Facts({ vm }: { vm: Vm }) {
  const machine = vm.hypervisor;
  const rows: [string, preact.ComponentChildren][] = [
    ["Plugin", <a href="#/plugins">{`${vm.plugin.name} ${vm.plugin.version}`}</a>],
    ["Reached at", <Address vm={vm} />],
    ["Ports", vm.ports.map((port) => <div key={showPort(port)}>{showPort(port)}</div>)],
    ["Network", `${vm.network}${vm.isolated ? ", isolated" : ""}${vm.ip ? `, ${vm.ip}` : ""}`],
    ["Networks", vm.networks.join(", ")],
    ["May reach", vm.egress.policy === "open" ? "" : `${vm.egress.policy}${vm.egress.denied ? ` (refused: ${vm.egress.denied})` : ""}`],
    ["Volumes", vm.volumes.map((volume) => <div key={volume.target}>{`${volume.name} → ${volume.target}${volume.read_only ? ", read only" : ""}`}</div>)],
    ["Folders", vm.mounts.map((mount) => <div key={mount.target}>{`${mount.source} → ${mount.target}${mount.read_only ? ", read only" : ""}`}</div>)],
    ["Size", `${vm.resources.vcpu} CPU, ${vm.resources.memory_mb} MiB`],
    ["Restart", `${vm.restart}${vm.restarts ? ` (${vm.restarts} in a row)` : ""}`],
    ["Secrets", vm.secrets.join(", ")],
    ["Machine", machine && isUp(vm) ? `${machine.kind}, ${machine.accelerator}${machine.pid ? `, process ${machine.pid}` : ""}` : ""],
    ["Kernel", machine?.kernel ?? ""],
    ["Agent", vm.agent.connected ? `kestrel ${vm.agent.version}` : ""],
    ["Exit code", vm.exit_code === null ? "" : String(vm.exit_code)],
    ["ID", vm.id],
  ];
  return (
    <section>
      <h2>Facts</h2>
      <dl class="facts">
        {rows
          .filter(([, value]) => value !== "" && !(Array.isArray(value) && value.length === 0))
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </section>
  );
}
