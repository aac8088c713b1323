// SPDX-License-Identifier: Apache-2.0
// Volumes: disks of their own, which outlive the VMs that mount them.
import { quoted } from "../api";
import type { Volume } from "../api_types";
import { Listing, VmLinks } from "../listing";
import { Command } from "../parts";
import { showBytes, showTime } from "../words";

export function Volumes() {
  return (
    <Listing<Volume>
      title="Volumes"
      path="/volumes"
      lead={
        <>
          Disks of their own, which stay when VMs go. Make one with <Command>volar volumes create NAME --size 10G</Command>.
        </>
      }
      empty={{ title: "No volume yet" }}
      columns={[
        { name: "Size", isNumber: true, show: ({ size_bytes }) => showBytes(size_bytes) },
        { name: "On the host", isNumber: true, show: ({ used_bytes }) => showBytes(used_bytes) },
        { name: "VMs", show: ({ vms }) => <VmLinks names={vms} /> },
        { name: "Created", isNumber: true, show: ({ created_at }) => showTime(created_at) },
      ]}
      removal={{
        path: ({ name }) => `/volumes/${quoted(name)}`,
        hindrance: ({ vms }) => (vms.length ? "VMs use it" : ""),
        consequence: "What is on it is lost.",
      }}
    />
  );
}
