// SPDX-License-Identifier: Apache-2.0
// A VM from a form that the plugin's manifest fills in.
import { useState } from "preact/hooks";
import { get, post, quoted } from "../api";
import type { Plugin, PublishRequest, Secret, Snapshot, Vm, VmCreate } from "../api_types";
import { Act, Command, Empty, Field, Heading, Problem, useLoaded } from "../parts";
import { go, type Place } from "../router";
import { fleet } from "../store";

interface Offer {
  plugins: Plugin[];
  snapshots: Snapshot[];
  secrets: Secret[];
}

async function readOffer(): Promise<Offer> {
  const [plugins, snapshots, secrets] = await Promise.all([get<Plugin[]>("/plugins"), get<Snapshot[]>("/snapshots"), get<Secret[]>("/secrets")]);
  return { plugins: plugins.filter((plugin) => plugin.enabled), snapshots, secrets };
}

export function Create({ place }: { place: Place }) {
  const { value: offer, error } = useLoaded(readOffer, []);
  const [chosen, choose] = useState("");
  if (error) return <Problem error={error} />;
  if (!offer) return <p class="none">Reading…</p>;
  const first = offer.plugins[0];
  const snapshot = place.query.get("snapshot") ?? "";
  const wanted = snapshot || chosen || place.query.get("plugin") || (first ? refer(first) : "");
  const plugin = offer.plugins.find((one) => refer(one) === wanted) ?? offer.plugins.find((one) => one.name === wanted);
  const source = offer.snapshots.find((one) => one.name === snapshot);
  return (
    <>
      <Heading title={snapshot ? `A VM from ${snapshot}` : "Create a VM"} />
      {!plugin && !source ? (
        <Empty title={snapshot ? `There is no snapshot ${snapshot}` : "No plugin is installed"}>
          <p>Build one of a Dockerfile and install it:</p>
          <p>
            <Command>fledge build && volar plugins install ./my-app.tar.gz</Command>
          </p>
        </Empty>
      ) : (
        <>
          {plugin && (
            <Field label="Plugin" hint={plugin.description}>
              <select value={refer(plugin)} onChange={(event) => choose(event.currentTarget.value)}>
                {offer.plugins.map((one) => (
                  <option key={refer(one)} value={refer(one)}>
                    {one.name} {one.version}
                  </option>
                ))}
              </select>
            </Field>
          )}
          <Form key={wanted} plugin={plugin ?? null} snapshot={source ?? null} secrets={offer.secrets} />
        </>
      )}
    </>
  );
}

const refer = (plugin: Plugin) => `${plugin.name}:${plugin.version}`;

function suggestName(base: string): string {
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? base : `${base}-${number}`;
    if (!fleet.vms.has(name)) return name;
  }
}

type Pair = [name: string, value: string];

function Form({ plugin, snapshot, secrets }: { plugin: Plugin | null; snapshot: Snapshot | null; secrets: Secret[] }) {
  const manifest = plugin?.manifest;
  const port = manifest?.workload.port;
  const [name, setName] = useState(() => suggestName(plugin?.name ?? snapshot?.vm ?? "vm"));
  const [vcpu, setVcpu] = useState(String(manifest?.resources.vcpu ?? ""));
  const [memory, setMemory] = useState(String(manifest?.resources.memory_mb ?? ""));
  const [disk, setDisk] = useState("");
  const [ports, setPorts] = useState<Pair[]>(port ? [["", String(port)]] : []);
  const [env, setEnv] = useState<Pair[]>(Object.entries(manifest?.workload.env ?? {}));
  const [labels, setLabels] = useState<Pair[]>([]);
  const [attached, setAttached] = useState<string[]>([]);
  const [restart, setRestart] = useState("on-failure");
  const [starts, setStarts] = useState(true);
  const [error, tell] = useState<unknown>(null);
  const given = (pairs: Pair[]) => pairs.filter(([key]) => key.trim()).map(([key, value]): Pair => [key.trim(), value]);

  const create = async () => {
    const before = manifest?.workload.env ?? {};
    const request: VmCreate = {
      name: name.trim(),
      restart,
      start: starts,
      publish: ports.filter(([, guest]) => guest.trim()).map(([host, guest]): PublishRequest => ({ guest_port: Number(guest), host_port: host.trim() ? Number(host) : null })),
      env: Object.fromEntries(given(env).filter(([key, value]) => before[key] !== value)),
      labels: Object.fromEntries(given(labels)),
      secrets: attached.map((secret) => ({ name: secret })),
    };
    if (snapshot) request.snapshot = snapshot.name;
    else {
      request.plugin = plugin ? refer(plugin) : "";
      request.resources = { vcpu: Number(vcpu), memory_mb: Number(memory), nested: manifest?.resources.nested ?? false };
      if (disk.trim()) request.disk_size = disk.trim();
    }
    const vm = await post<Vm>("/vms", request);
    fleet.refresh(vm.name);
    go(`vms/${quoted(vm.name)}`);
  };

  return (
    <form class="form" onSubmit={(event) => event.preventDefault()}>
      <Field label="Name" hint="lower case, digits and -">
        <input value={name} required autocomplete="off" spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
      </Field>
      {!snapshot && (
        <div class="columns">
          <Field label="CPUs">
            <input type="number" min="1" max="256" value={vcpu} onInput={(event) => setVcpu(event.currentTarget.value)} />
          </Field>
          <Field label="Memory (MiB)">
            <input type="number" min="32" step="32" value={memory} onInput={(event) => setMemory(event.currentTarget.value)} />
          </Field>
          <Field label="Disk" hint="grown to this; empty: as built">
            <input value={disk} placeholder="20G" autocomplete="off" onInput={(event) => setDisk(event.currentTarget.value)} />
          </Field>
        </div>
      )}
      {!snapshot && <Pairs title="Published ports" names={["host port", "guest port"]} hints={["any free", ""]} add="Publish a port" pairs={ports} set={setPorts} />}
      {!snapshot && <Pairs title="Environment" names={["variable", "value"]} add="Add a variable" pairs={env} set={setEnv} />}
      <Pairs title="Labels" names={["label", "value"]} add="Add a label" pairs={labels} set={setLabels} />
      {!snapshot && secrets.length > 0 && (
        <fieldset>
          <legend>Secrets</legend>
          {secrets.map((secret) => (
            <label key={secret.name} class="check">
              <input type="checkbox" checked={attached.includes(secret.name)} onChange={(event) => setAttached(event.currentTarget.checked ? [...attached, secret.name] : attached.filter((other) => other !== secret.name))} />
              {secret.name}
            </label>
          ))}
        </fieldset>
      )}
      <div class="columns">
        <Field label="Restart">
          <select value={restart} onChange={(event) => setRestart(event.currentTarget.value)}>
            {["on-failure", "always", "unless-stopped", "no"].map((policy) => (
              <option key={policy}>{policy}</option>
            ))}
          </select>
        </Field>
        <label class="check bottom">
          <input type="checkbox" checked={starts} onChange={(event) => setStarts(event.currentTarget.checked)} />
          Start it at once
        </label>
      </div>
      {error ? <Problem error={error} /> : null}
      <div class="actions">
        <a class="button" href="#/vms">
          Cancel
        </a>
        <Act kind="primary" tell={tell} work={create} disabled={!name.trim()}>
          Create {name.trim() || "it"}
        </Act>
      </div>
    </form>
  );
}

function Pairs(props: { title: string; names: Pair; hints?: Pair; add: string; pairs: Pair[]; set: (pairs: Pair[]) => void }) {
  const change = (row: number, part: 0 | 1, text: string) => props.set(props.pairs.map((pair, index) => (index !== row ? pair : part === 0 ? [text, pair[1]] : [pair[0], text])));
  return (
    <fieldset>
      <legend>{props.title}</legend>
      {props.pairs.map((pair, row) => (
        <div key={row} class="pair">
          {([0, 1] as const).map((part) => (
            <input key={part} value={pair[part]} placeholder={props.hints?.[part] || props.names[part]} aria-label={`${props.title}, row ${row + 1}: ${props.names[part]}`} autocomplete="off" spellcheck={false} onInput={(event) => change(row, part, event.currentTarget.value)} />
          ))}
          <button type="button" class="quiet" aria-label={`Remove row ${row + 1} of ${props.title}`} onClick={() => props.set(props.pairs.filter((_, index) => index !== row))}>
            ✕
          </button>
        </div>
      ))}
      <button type="button" class="quiet" onClick={() => props.set([...props.pairs, ["", ""]])}>
        + {props.add}
      </button>
    </fieldset>
  );
}
