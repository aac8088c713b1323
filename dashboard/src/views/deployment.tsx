// SPDX-License-Identifier: Apache-2.0
// One deployment: how many of its VMs are ready, how far an update is, scaling and going back.
import { useState } from "preact/hooks";
import { call, post, quoted } from "../api";
import type { Deployment, DeploymentVm } from "../api_types";
import { Act, Confirm, Problem, Status } from "../parts";
import { showPort, type Tone } from "../words";

const TONES: Record<Deployment["status"], Tone> = { ready: "good", progressing: "busy", degraded: "bad", "rolled-back": "bad", deleting: "busy" };
const WORDS: Record<Deployment["status"], string> = { ready: "ready", progressing: "progressing", degraded: "degraded", "rolled-back": "rolled back", deleting: "being deleted" };

export function DeploymentCard({ deployment, again }: { deployment: Deployment; again: () => void }) {
  const { name, replicas, plugin, status } = deployment;
  const [error, tell] = useState<unknown>(null);
  const [goesBack, setGoesBack] = useState(false);
  const isLeaving = status === "deleting";
  const path = `/deployments/${quoted(name)}`;
  const scale = (count: number) => call("PATCH", path, { replicas: count }).then(again);
  return (
    <section class="stack" aria-label={`Deployment ${name}`}>
      <header>
        <h2>
          {name} <span class="quiet">deployment</span>
        </h2>
        <Status tone={TONES[status]}>{WORDS[status]}</Status>
        <div class="actions">
          <div class="stepper" role="group" aria-label={`Replicas of ${name}`}>
            <Act tell={tell} label="One VM fewer" disabled={replicas === 0 || isLeaving} work={() => scale(replicas - 1)}>
              −
            </Act>
            <span>
              <b>{replicas}</b> {replicas === 1 ? "VM" : "VMs"}
            </span>
            <Act tell={tell} label="One VM more" disabled={isLeaving} work={() => scale(replicas + 1)}>
              +
            </Act>
          </div>
          <button type="button" disabled={deployment.revision === 1 || isLeaving} onClick={() => setGoesBack(true)}>
            Roll back
          </button>
        </div>
      </header>
      {error ? <Problem error={error} /> : null}
      <div class="rollout">
        <Progress title="Ready" count={deployment.ready} of={replicas} />
        <Progress title={`At revision ${deployment.revision}`} count={deployment.updated} of={replicas} />
        <dl>
          <dt>Plugin</dt>
          <dd>
            {plugin.name} <span class="quiet">{plugin.version}</span>
          </dd>
          <dt>Address</dt>
          <dd class="number">{deployment.publish.map(showPort).join(", ") || "none is published"}</dd>
        </dl>
        {deployment.reason && <p class="reason">{deployment.reason}</p>}
      </div>
      <ul class="members">
        {deployment.vms.map((vm) => (
          <li key={vm.id} data-row tabIndex={-1}>
            <a href={`#/vms/${quoted(vm.name)}`}>{vm.name}</a>
            <Status tone={judgeMember(vm)}>{vm.ready ? "ready" : vm.status === "running" ? vm.health : vm.status}</Status>
            <span class="quiet">revision {vm.revision}</span>
            {vm.reason && <span class="reason">{vm.reason}</span>}
          </li>
        ))}
      </ul>
      {goesBack && (
        <Confirm title={`Roll ${name} back?`} verb="Roll it back" close={() => setGoesBack(false)} work={() => post(`${path}/rollback`).then(again)}>
          <p>Its VMs are replaced, step by step, by those of the revision before revision {deployment.revision}.</p>
        </Confirm>
      )}
    </section>
  );
}

function Progress({ title, count, of }: { title: string; count: number; of: number }) {
  return (
    <label class="progress">
      <span>{title}</span>
      <progress value={Math.min(count, of)} max={Math.max(of, 1)} />
      <span class="number">
        {count} of {of}
      </span>
    </label>
  );
}

function judgeMember(vm: DeploymentVm): Tone {
  if (vm.ready) return "good";
  if (vm.status === "failed" || vm.health === "unhealthy") return "bad";
  return vm.status === "stopped" ? "idle" : "busy";
}
