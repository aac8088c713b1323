// SPDX-License-Identifier: Apache-2.0
// Every VM, live.
import { useRef, useState } from "preact/hooks";
import { post, quoted } from "../api";
import type { Vm } from "../api_types";
import { Act, Command, Empty, Heading, PluginCell, Problem, StateCell, useTick } from "../parts";
import { go } from "../router";
import { useFleet } from "../store";
import { useWindow } from "../window";
import { DEPLOYMENT_LABEL, isReachable, isUp, judge, listLabels, PROJECT_LABEL, secondsSince, showSpan, type Tone } from "../words";

const IN_ORDER = new Intl.Collator().compare;

const TONES: [tone: Tone, name: string][] = [
  ["bad", "In trouble"],
  ["busy", "On their way"],
  ["good", "Up"],
  ["idle", "At rest"],
];

export function Vms() {
  const { vms, connection } = useFleet();
  const [search, setSearch] = useState("");
  const [tone, setTone] = useState<Tone | null>(null);
  const [error, tell] = useState<unknown>(null);
  useTick(10_000);
  const all = [...vms.values()].sort((one, other) => IN_ORDER(one.name, other.name));
  const wanted = search.trim().toLowerCase();
  const shown = all.filter((vm) => (!tone || judge(vm).tone === tone) && (!wanted || describe(vm).includes(wanted)));
  const body = useRef<HTMLTableSectionElement>(null);
  const { first, last, above, below } = useWindow(body, shown.length);
  return (
    <>
      <Heading title="VMs">
        <a class="button primary" href="#/create">
          Create a VM
        </a>
      </Heading>
      {error ? <Problem error={error} /> : null}
      {all.length === 0 ? (
        connection !== "opening" && <NoVms />
      ) : (
        <>
          <div class="filters">
            <input type="search" placeholder="Search name, plugin, label, address" aria-label="Search VMs" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
            <div class="chips" role="group" aria-label="How they are">
              {TONES.map(([kind, name]) => (
                <button key={kind} type="button" class={`chip ${kind}`} aria-pressed={tone === kind} onClick={() => setTone(tone === kind ? null : kind)}>
                  <span class="dot" aria-hidden="true" />
                  {name} <b>{all.filter((vm) => judge(vm).tone === kind).length}</b>
                </button>
              ))}
            </div>
          </div>
          <table class="rows vms" aria-rowcount={shown.length + 1}>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">State</th>
                <th scope="col">Plugin</th>
                <th scope="col">Reached at</th>
                <th scope="col">Size</th>
                <th scope="col">Up for</th>
                <th scope="col">
                  <span class="hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody ref={body}>
              <Gap height={above} />
              {shown.slice(first, last).map((vm, index) => (
                <Row key={vm.id} vm={vm} index={first + index + 2} tell={tell} />
              ))}
              <Gap height={below} />
            </tbody>
          </table>
          {shown.length === 0 && <p class="none">No VM is like this.</p>}
        </>
      )}
    </>
  );
}

function describe(vm: Vm): string {
  const labels = Object.entries(vm.labels).map(([name, value]) => `${name}=${value}`);
  return [vm.name, vm.plugin.name, vm.plugin.version, vm.ip ?? "", judge(vm).word, ...labels].join(" ").toLowerCase();
}

/** Where rows would be that are far from the screen. */
function Gap({ height }: { height: number }) {
  return height > 0 ? <tr class="gap" aria-hidden="true" style={{ height: `${height}px` }} /> : null;
}

function Row({ vm, index, tell }: { vm: Vm; index: number; tell: (error: unknown) => void }) {
  const path = `/vms/${quoted(vm.name)}`;
  const open = () => go(`vms/${quoted(vm.name)}`);
  return (
    <tr data-row aria-rowindex={index} tabIndex={0} onKeyDown={(event) => event.key === "Enter" && event.target === event.currentTarget && open()}>
      <th scope="row">
        <a href={`#${path}`} tabIndex={-1}>
          {vm.name}
        </a>
        <Labels vm={vm} />
      </th>
      <StateCell vm={vm} />
      <PluginCell vm={vm} />
      <td data-label="Reached at">
        <Address vm={vm} />
      </td>
      <td data-label="Size" class="number">
        {vm.resources.vcpu} CPU · {vm.resources.memory_mb} MiB
      </td>
      <td data-label="Up for" class="number">
        {isUp(vm) && vm.started_at ? showSpan(secondsSince(vm.started_at)) : "–"}
      </td>
      <td class="act">
        {isUp(vm) ? (
          <Act tell={tell} work={() => post(`${path}/stop`)} label={`Stop ${vm.name}`}>
            Stop
          </Act>
        ) : (
          <Act tell={tell} work={() => post(`${path}/start`)} label={`Start ${vm.name}`}>
            Start
          </Act>
        )}
      </td>
    </tr>
  );
}

export function Labels({ vm }: { vm: Vm }) {
  const labels = listLabels(vm);
  const group = vm.labels[PROJECT_LABEL] ?? vm.labels[DEPLOYMENT_LABEL];
  if (!labels.length && !group) return null;
  return (
    <span class="labels">
      {group && (
        <a class="label-tag" href="#/stacks">
          {group}
        </a>
      )}
      {labels.map(([name, value]) => (
        <span key={name} class="label-tag">
          {value ? `${name}=${value}` : name}
        </span>
      ))}
    </span>
  );
}

/** A link only where the daemon says http: a guest's page opens in a tab of its own, which knows nothing of this one. */
export function Address({ vm }: { vm: Vm }) {
  if (!isReachable(vm)) return <span>–</span>;
  if (vm.url && /^https?:\/\//.test(vm.url))
    return (
      <a href={vm.url} target="_blank" rel="noreferrer noopener">
        {vm.url.replace(/^http:\/\//, "")}
      </a>
    );
  const [port] = vm.ports;
  return <span>{port ? `${port.host_ip}:${port.host_port}` : (vm.ip ?? "–")}</span>;
}

function NoVms() {
  return (
    <Empty title="No VM yet">
      <p>Make one of an installed plugin, or in a terminal of a Dockerfile, an archive or an image:</p>
      <p>
        <Command>volar run ./my-app</Command>
      </p>
    </Empty>
  );
}
