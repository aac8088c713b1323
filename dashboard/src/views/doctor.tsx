// SPDX-License-Identifier: Apache-2.0
// What the daemon's host can and cannot do, each finding with how to fix it.
import { get } from "../api";
import type { HostFinding } from "../api_types";
import { Heading, Problem, Status, useLoaded } from "../parts";
import type { Tone } from "../words";

const TONES: Record<HostFinding["state"], Tone> = { ok: "good", limited: "busy", missing: "bad" };

export function Doctor() {
  const { value, error, again } = useLoaded(() => get<HostFinding[]>("/system/doctor"), []);
  return (
    <>
      <Heading title="Doctor">
        <button type="button" onClick={again}>
          Look again
        </button>
      </Heading>
      {error ? <Problem error={error} /> : null}
      {!value && !error && <p class="none">Looking at this host, which takes some seconds…</p>}
      {value && (
        <table class="rows">
          <thead>
            <tr>
              <th scope="col">Subject</th>
              <th scope="col">State</th>
              <th scope="col">Found</th>
            </tr>
          </thead>
          <tbody>
            {value.map((finding) => (
              <tr key={finding.subject}>
                <th scope="row">{finding.subject}</th>
                <td data-label="State">
                  <Status tone={TONES[finding.state]}>{finding.state}</Status>
                </td>
                <td data-label="Found">
                  {finding.fact}
                  {finding.mend && <p class="mend">Try: {finding.mend}</p>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
