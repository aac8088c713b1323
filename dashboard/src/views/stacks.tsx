// SPDX-License-Identifier: Apache-2.0
// VMs that belong together: stacks of compose files, service by service, and deployments.
import { useEffect } from "preact/hooks";
import { getAll, quoted } from "../api";
import type { Deployment, Vm } from "../api_types";
import { Command, Empty, Heading, PluginCell, Problem, StateCell, Status, useLoaded } from "../parts";
import { useFleet } from "../store";
import { isFinished, isReachable, judge, PROJECT_LABEL, SERVICE_LABEL, showPort, type Tone } from "../words";
import { DeploymentCard } from "./deployment";
import { Address } from "./vms";

const REFRESH_MS = 2000;
const IN_ORDER = new Intl.Collator(undefined, { numeric: true }).compare;
const WORST_FIRST: Tone[] = ["bad", "busy", "idle", "good"];

export function Stacks() {
  const { vms, connection } = useFleet();
  const { value: deployments, error, again } = useLoaded(() => getAll<Deployment>("/deployments"), []);
  // How far an update is changes without an event of a VM.
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && again(), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  const stacks = groupBy([...vms.values()], (vm) => vm.labels[PROJECT_LABEL]);
  const isEmpty = connection !== "opening" && stacks.length === 0 && deployments?.length === 0;
  return (
    <>
      <Heading title="Stacks" />
      {error ? <Problem error={error} /> : null}
      {isEmpty && <NoStacks />}
      {stacks.map(([name, members]) => (
        <Stack key={name} name={name} members={members} />
      ))}
      {deployments?.map((deployment) => (
        <DeploymentCard key={deployment.id} deployment={deployment} again={again} />
      ))}
    </>
  );
}

/** By a label's value, in order; what has none is left out. */
function groupBy(vms: Vm[], read: (vm: Vm) => string | undefined): [string, Vm[]][] {
  const groups = new Map<string, Vm[]>();
  for (const vm of vms) {
    const name = read(vm);
    if (name) groups.set(name, [...(groups.get(name) ?? []), vm]);
  }
  for (const members of groups.values()) members.sort((one, other) => IN_ORDER(one.name, other.name));
  return [...groups].sort(([one], [other]) => IN_ORDER(one, other));
}

/** How a stack is: as its VM that is worst, leaving aside those whose work is done. */
function judgeAll(vms: Vm[]): { words: string; tone: Tone } {
  const lasting = vms.filter((vm) => !isFinished(vm));
  const tones = lasting.map((vm) => judge(vm).tone);
  const up = `${tones.filter((tone) => tone === "good").length} of ${lasting.length} up`;
  const words = lasting.length < vms.length ? `${up}, ${vms.length - lasting.length} finished` : up;
  return { words, tone: WORST_FIRST.find((tone) => tones.includes(tone)) ?? "idle" };
}

function Stack({ name, members }: { name: string; members: Vm[] }) {
  const services = groupBy(members, (vm) => vm.labels[SERVICE_LABEL]);
  const { words, tone } = judgeAll(members);
  return (
    <section class="stack" aria-label={`Stack ${name}`}>
      <header>
        <h2>
          {name} <span class="quiet">compose</span>
        </h2>
        <Status tone={tone}>{words}</Status>
      </header>
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Service</th>
            <th scope="col">VM</th>
            <th scope="col">State</th>
            <th scope="col">Plugin</th>
            <th scope="col">Reached at</th>
          </tr>
        </thead>
        <tbody>
          {services.map(([service, vms]) => vms.map((vm, index) => <Row key={vm.id} vm={vm} service={index === 0 ? service : ""} rows={vms.length} />))}
        </tbody>
      </table>
    </section>
  );
}

/** One VM; the first of a service says which service it is, for all its rows. */
function Row({ vm, service, rows }: { vm: Vm; service: string; rows: number }) {
  return (
    <tr data-row tabIndex={-1}>
      {service && (
        <th scope="rowgroup" rowSpan={rows}>
          {service}
        </th>
      )}
      <td data-label="VM">
        <a href={`#/vms/${quoted(vm.name)}`}>{vm.name}</a>
      </td>
      <StateCell vm={vm} />
      <PluginCell vm={vm} />
      <td data-label="Reached at">
        <Ports vm={vm} />
      </td>
    </tr>
  );
}

/** Its page, where it has one, and what the file publishes: not the ports of the VM's own address. */
function Ports({ vm }: { vm: Vm }) {
  const published = isReachable(vm) ? vm.ports.filter((port) => port.host_ip !== vm.ip) : [];
  return (
    <>
      {(vm.url || published.length === 0) && <Address vm={vm} />}
      {published.map((port) => (
        <div key={`${port.host_ip} ${port.host_port}`} class="number">
          {showPort(port)}
        </div>
      ))}
    </>
  );
}

function NoStacks() {
  return (
    <Empty title="No stack and no deployment yet">
      <p>A stack is what one compose file makes, a VM a service; a deployment keeps several VMs behind one address.</p>
      <p>
        <Command>volar compose up -d</Command> <Command>volar deployments create web --plugin web --replicas 3 --publish 8080:80</Command>
      </p>
    </Empty>
  );
}
