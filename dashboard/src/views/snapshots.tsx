// SPDX-License-Identifier: Apache-2.0
// Snapshots: what VMs were at one instant.
import { useState } from "preact/hooks";
import { get, quoted, remove } from "../api";
import type { Snapshot } from "../api_types";
import { Confirm, Empty, Heading, Problem, useLoaded } from "../parts";
import { showBytes, showTime } from "../words";

export function Snapshots() {
  const { value, error, again } = useLoaded(() => get<Snapshot[]>("/snapshots"), []);
  const [leaving, setLeaving] = useState<Snapshot | null>(null);
  return (
    <>
      <Heading title="Snapshots" />
      {error ? <Problem error={error} /> : null}
      {value?.length === 0 && (
        <Empty title="No snapshot yet">
          <p>A VM's page takes one: disk and memory of an instant, from which other VMs go on.</p>
        </Empty>
      )}
      {value && value.length > 0 && (
        <table class="rows">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Of</th>
              <th scope="col">Holds</th>
              <th scope="col">Size</th>
              <th scope="col">Taken</th>
              <th scope="col">
                <span class="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {value.map((snapshot) => (
              <tr key={snapshot.id} data-row tabIndex={-1}>
                <th scope="row">{snapshot.name}</th>
                <td data-label="Of">
                  {snapshot.vm}{" "}
                  <span class="quiet">
                    {snapshot.plugin.name} {snapshot.plugin.version}
                  </span>
                </td>
                <td data-label="Holds">{snapshot.has_memory ? `disk and memory (paused ${snapshot.pause_ms.toFixed(0)} ms)` : "disk"}</td>
                <td data-label="Size" class="number">
                  {showBytes(snapshot.size_bytes)}
                </td>
                <td data-label="Taken" class="number">
                  {showTime(snapshot.created_at)}
                </td>
                <td class="act">
                  <a class="button" href={`#/create?snapshot=${quoted(snapshot.name)}`} aria-label={`Create a VM of ${snapshot.name}`}>
                    Create a VM
                  </a>
                  <button type="button" class="danger" aria-label={`Delete ${snapshot.name}`} onClick={() => setLeaving(snapshot)}>
                    Delete
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {leaving && (
        <Confirm
          title={`Delete ${leaving.name}?`}
          verb="Delete it"
          close={() => setLeaving(null)}
          work={async () => {
            await remove(`/snapshots/${quoted(leaving.id)}`);
            again();
          }}
        >
          <p>VMs that were made of it go on.</p>
        </Confirm>
      )}
    </>
  );
}
