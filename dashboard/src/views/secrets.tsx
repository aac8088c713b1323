// SPDX-License-Identifier: Apache-2.0
// Secrets, by name: values go in and never come out again.
import { get, quoted } from "../api";
import type { Secret } from "../api_types";
import { Command, Empty, Heading, Problem, useLoaded } from "../parts";
import { showTime } from "../words";

export function Secrets() {
  const { value, error } = useLoaded(() => get<Secret[]>("/secrets"), []);
  return (
    <>
      <Heading title="Secrets" />
      <p class="lead">
        Names only: no page and no reply of the API shows a value. Set one with <Command>volar secrets set NAME</Command>.
      </p>
      {error ? <Problem error={error} /> : null}
      {value?.length === 0 && <Empty title="No secret is kept" />}
      {value && value.length > 0 && (
        <table class="rows">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Bytes</th>
              <th scope="col">Changed</th>
              <th scope="col">VMs</th>
            </tr>
          </thead>
          <tbody>
            {value.map((secret) => (
              <tr key={secret.name} data-row tabIndex={-1}>
                <th scope="row">{secret.name}</th>
                <td data-label="Bytes" class="number">
                  {secret.size_bytes}
                </td>
                <td data-label="Changed" class="number">
                  {showTime(secret.updated_at)}
                </td>
                <td data-label="VMs">
                  {secret.vms.length === 0 ? "–" : secret.vms.map((name) => (
                    <a key={name} href={`#/vms/${quoted(name)}`}>
                      {name}{" "}
                    </a>
                  ))}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
