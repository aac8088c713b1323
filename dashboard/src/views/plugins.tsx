// SPDX-License-Identifier: Apache-2.0
// Installed plugins: what VMs are made of.
import { useState } from "preact/hooks";
import { get, post, quoted, remove } from "../api";
import type { Plugin } from "../api_types";
import { Act, Command, Confirm, Empty, Heading, Problem, Status, useLoaded } from "../parts";
import { showBytes } from "../words";

export function Plugins() {
  const { value, error, again } = useLoaded(() => get<Plugin[]>("/plugins"), []);
  const [failed, tell] = useState<unknown>(null);
  const [leaving, setLeaving] = useState<Plugin | null>(null);
  return (
    <>
      <Heading title="Plugins" />
      {error || failed ? <Problem error={error ?? failed} /> : null}
      {value?.length === 0 && (
        <Empty title="No plugin is installed">
          <p>
            <Command>fledge build && volar plugins install ./my-app.tar.gz</Command>
          </p>
        </Empty>
      )}
      <div class="cards">
        {value?.map((plugin) => (
          <article key={plugin.checksum + plugin.version} class="card" data-row tabIndex={-1}>
            <header>
              <h2>
                {plugin.name} <span class="quiet">{plugin.version}</span>
              </h2>
              <Status tone={plugin.enabled ? "good" : "idle"}>{plugin.enabled ? "enabled" : "disabled"}</Status>
            </header>
            {plugin.description && <p>{plugin.description}</p>}
            <dl class="facts small">
              <Fact name="Kind" value={`${plugin.kind}, ${plugin.boot === "kernel" ? "our kernel" : "its own boot loader"}`} />
              <Fact name="Size" value={`${showBytes(plugin.size_bytes)}${plugin.virtual_size_bytes ? `, as a disk ${showBytes(plugin.virtual_size_bytes)}` : ""}`} />
              <Fact name="Workload" value={describeWorkload(plugin)} />
              <Fact name="VMs" value={String(plugin.vms)} />
            </dl>
            <div class="actions">
              {plugin.enabled && (
                <a class="button" href={`#/create?plugin=${quoted(`${plugin.name}:${plugin.version}`)}`}>
                  Create a VM
                </a>
              )}
              <Act
                tell={tell}
                work={async () => {
                  await post(`${path(plugin, plugin.enabled ? "/disable" : "/enable")}`);
                  again();
                }}
              >
                {plugin.enabled ? "Disable" : "Enable"}
              </Act>
              <button type="button" class="danger" disabled={plugin.vms > 0} title={plugin.vms ? "VMs use it" : undefined} onClick={() => setLeaving(plugin)}>
                Remove
              </button>
            </div>
          </article>
        ))}
      </div>
      {leaving && (
        <Confirm
          title={`Remove ${leaving.name} ${leaving.version}?`}
          verb="Remove it"
          close={() => setLeaving(null)}
          work={async () => {
            await remove(path(leaving));
            again();
          }}
        >
          <p>Its disk goes. Installing the archive again brings it back.</p>
        </Confirm>
      )}
    </>
  );
}

const path = (plugin: Plugin, verb = "") => `/plugins/${quoted(plugin.name)}${verb}?version=${quoted(plugin.version)}`;

function describeWorkload({ manifest: { workload } }: Plugin): string {
  return `${workload.type}${workload.port ? `, port ${workload.port}` : ""}`;
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
