// SPDX-License-Identifier: Apache-2.0
// A view that is one list of the API: read when it opens, a row a thing, and what may be done to it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { get, quoted, remove } from "./api";
import { Confirm, Empty, Heading, Problem, useLoaded } from "./parts";

export interface Column<T> {
  name: string;
  isNumber?: boolean;
  show: (row: T) => ComponentChildren;
}

interface Removal<T> {
  path: (row: T) => string;
  /** Why it cannot be deleted now; nothing where it can. */
  hindrance?: (row: T) => string;
  /** What goes with it, and what stays. */
  consequence: string;
}

export function Listing<T extends { name: string }>(props: {
  title: string;
  path: string;
  lead?: ComponentChildren;
  empty: { title: string; advice?: ComponentChildren };
  columns: Column<T>[];
  act?: (row: T) => ComponentChildren;
  removal?: Removal<T>;
}) {
  const { columns, removal } = props;
  const { value, error, again } = useLoaded(() => get<T[]>(props.path), []);
  const [leaving, setLeaving] = useState<T | null>(null);
  const hasActions = Boolean(props.act || removal);
  return (
    <>
      <Heading title={props.title} />
      {props.lead && <p class="lead">{props.lead}</p>}
      {error ? <Problem error={error} /> : null}
      {value?.length === 0 && <Empty title={props.empty.title}>{props.empty.advice}</Empty>}
      {value && value.length > 0 && (
        <table class="rows">
          <thead>
            <tr>
              <th scope="col">Name</th>
              {columns.map(({ name }) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
              {hasActions && (
                <th scope="col">
                  <span class="hidden">Actions</span>
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {value.map((row) => (
              <tr key={row.name} data-row tabIndex={-1}>
                <th scope="row">{row.name}</th>
                {columns.map(({ name, isNumber, show }) => (
                  <td key={name} data-label={name} class={isNumber ? "number" : ""}>
                    {show(row)}
                  </td>
                ))}
                {hasActions && (
                  <td class="act">
                    {props.act?.(row)}
                    {removal && (
                      <button type="button" class="danger" aria-label={`Delete ${row.name}`} disabled={Boolean(removal.hindrance?.(row))} title={removal.hindrance?.(row) || undefined} onClick={() => setLeaving(row)}>
                        Delete
                      </button>
                    )}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {leaving && removal && (
        <Confirm
          title={`Delete ${leaving.name}?`}
          verb="Delete it"
          close={() => setLeaving(null)}
          work={async () => {
            await remove(removal.path(leaving));
            again();
          }}
        >
          <p>{removal.consequence}</p>
        </Confirm>
      )}
    </>
  );
}

export function VmLinks({ names }: { names: string[] }) {
  if (names.length === 0) return <>–</>;
  return (
    <>
      {names.map((name) => (
        <a key={name} href={`#/vms/${quoted(name)}`}>
          {name}{" "}
        </a>
      ))}
    </>
  );
}
