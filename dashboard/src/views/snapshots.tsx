// SPDX-License-Identifier: Apache-2.0
// Snapshots: what VMs were at one instant.
import { quoted } from "../api";
import type { Snapshot } from "../api_types";
import { Listing } from "../listing";
import { showBytes, showTime } from "../words";

export function Snapshots() {
  return (
    <Listing<Snapshot>
      title="Snapshots"
      path="/snapshots"
      empty={{ title: "No snapshot yet", advice: <p>A VM's page takes one: disk and memory of an instant, from which other VMs go on.</p> }}
      columns={[
        { name: "Of", show: ({ vm, plugin }) => [`${vm} `, <span class="quiet">{`${plugin.name} ${plugin.version}`}</span>] },
        { name: "Holds", show: ({ has_memory, pause_ms }) => (has_memory ? `disk and memory (paused ${pause_ms.toFixed(0)} ms)` : "disk") },
        { name: "Size", isNumber: true, show: ({ size_bytes }) => showBytes(size_bytes) },
        { name: "Taken", isNumber: true, show: ({ created_at }) => showTime(created_at) },
      ]}
      act={({ name }) => (
        <a class="button" href={`#/create?snapshot=${quoted(name)}`} aria-label={`Create a VM of ${name}`}>
          Create a VM
        </a>
      )}
      removal={{ path: ({ id }) => `/snapshots/${quoted(id)}`, consequence: "VMs that were made of it go on." }}
    />
  );
}
