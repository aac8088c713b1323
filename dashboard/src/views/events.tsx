// SPDX-License-Identifier: Apache-2.0
// What happened, newest first, as it happens.
import { useState } from "preact/hooks";
import { quoted, readEvents } from "../api";
import type { Event } from "../api_types";
import { Heading, Problem, useLoaded } from "../parts";
import { useFleet } from "../store";
import { isOfDeployment, showTime } from "../words";

const MOST_SHOWN = 500;

async function readKept(): Promise<Event[]> {
  const kept: Event[] = [];
  for await (const event of readEvents<Event>("/events/vms")) if (event) kept.push(event);
  return kept.reverse();
}

export function Events() {
  const { recent } = useFleet();
  const { value, error } = useLoaded(readKept, []);
  const [search, setSearch] = useState("");
  const newest = value?.[0]?.id ?? -1;
  const all = [...recent.filter((event) => event.id > newest), ...(value ?? [])];
  const wanted = search.toLowerCase();
  const shown = all.filter((event) => `${event.vm} ${event.kind} ${describe(event)}`.toLowerCase().includes(wanted)).slice(0, MOST_SHOWN);
  return (
    <>
      <Heading title="Events" />
      {error ? <Problem error={error} /> : null}
      <div class="filters">
        <input type="search" placeholder="Search" aria-label="Search events" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      </div>
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">VM</th>
            <th scope="col">What</th>
            <th scope="col">Details</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((event) => (
            <tr key={event.id}>
              <td class="number">{showTime(event.time)}</td>
              <td data-label="VM">{event.vm ? <a href={isOfDeployment(event) ? "#/stacks" : `#/vms/${quoted(event.vm)}`}>{event.vm}</a> : "–"}</td>
              <td data-label="What">{event.kind}</td>
              <td data-label="Details" class="quiet">
                {describe(event)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length === 0 && <p class="none">{value ? "Nothing." : "Reading…"}</p>}
    </>
  );
}

function describe({ data }: Event): string {
  return Object.entries(data)
    .filter(([name, value]) => name !== "id" && value !== "" && value !== null)
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(", ");
}
