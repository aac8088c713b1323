// SPDX-License-Identifier: Apache-2.0
// Secrets, by name: values go in and never come out again.
import type { Secret } from "../api_types";
import { Listing, VmLinks } from "../listing";
import { Command } from "../parts";
import { showTime } from "../words";

export function Secrets() {
  return (
    <Listing<Secret>
      title="Secrets"
      path="/secrets"
      lead={
        <>
          Names only: no page and no reply of the API shows a value. Set one with <Command>volar secrets set NAME</Command>.
        </>
      }
      empty={{ title: "No secret is kept" }}
      columns={[
        { name: "Bytes", isNumber: true, show: ({ size_bytes }) => size_bytes },
        { name: "Changed", isNumber: true, show: ({ updated_at }) => showTime(updated_at) },
        { name: "VMs", show: ({ vms }) => <VmLinks names={vms} /> },
      ]}
    />
  );
}
