// SPDX-License-Identifier: Apache-2.0
// One VM: its head with what can be done to it, and the tab that is open.
import { useEffect, useState } from "preact/hooks";
import { post, quoted, remove } from "../api";
import type { Vm } from "../api_types";
import { Act, Confirm, Dialog, Empty, Field, Problem, VmStatus } from "../parts";
import { go } from "../router";
import { fleet, useFleet } from "../store";
import { isUp } from "../words";
import { Logs } from "./logs";
import { Labels } from "./vms";
import { Overview } from "./overview";
import { Terminal } from "./terminal";
import { Usage } from "./usage";

const REFRESH_MS = 3000;
const TABS: [tab: string, name: string][] = [
  ["overview", "Overview"],
  ["logs", "Logs"],
  ["shell", "Shell"],
  ["console", "Console"],
  ["usage", "Usage"],
];

export function VmPage({ name, tab }: { name: string; tab: string }) {
  const { vms, connection } = useFleet();
  const vm = vms.get(name);
  // Checks and processes turn over without an event.
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && fleet.refresh(name), REFRESH_MS);
    return () => clearInterval(timer);
  }, [name]);
  if (!vm) return connection === "opening" ? <p class="none">Reading…</p> : <Gone name={name} />;
  return (
    <>
      <Head vm={vm} />
      <nav class="tabs" aria-label={`Views of ${name}`}>
        {TABS.map(([path, title]) => (
          <a key={path} href={`#/vms/${quoted(name)}/${path}`} aria-current={path === tab ? "page" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {tab === "logs" ? (
        <Logs vm={vm} />
      ) : tab === "shell" || tab === "console" ? (
        <Terminal key={`${tab} ${isUp(vm)}`} vm={vm} kind={tab} />
      ) : tab === "usage" ? (
        <Usage vm={vm} />
      ) : (
        <Overview vm={vm} />
      )}
    </>
  );
}

function Head({ vm }: { vm: Vm }) {
  const [error, tell] = useState<unknown>(null);
  const [asks, setAsks] = useState<"delete" | "snapshot" | "fork" | null>(null);
  const path = `/vms/${quoted(vm.name)}`;
  const close = () => setAsks(null);
  return (
    <>
      <p class="crumbs">
        <a href="#/vms">VMs</a>
      </p>
      <header class="heading">
        <div class="title">
          <h1>{vm.name}</h1>
          <VmStatus vm={vm} />
          <Labels vm={vm} />
        </div>
        <div class="actions">
          {vm.status === "suspended" ? (
            <Act kind="primary" tell={tell} work={() => post(`${path}/resume`)}>
              Resume
            </Act>
          ) : vm.status === "paused" ? (
            <Act kind="primary" tell={tell} work={() => post(`${path}/unpause`)}>
              Unpause
            </Act>
          ) : isUp(vm) ? (
            <>
              <Act tell={tell} disabled={vm.status !== "running"} work={() => post(`${path}/suspend`)}>
                Suspend
              </Act>
              <Act tell={tell} work={() => post(`${path}/stop`)}>
                Stop
              </Act>
              <Act tell={tell} work={() => post(`${path}/restart`)}>
                Restart
              </Act>
            </>
          ) : (
            <Act kind="primary" tell={tell} work={() => post(`${path}/start`)}>
              Start
            </Act>
          )}
          <button type="button" onClick={() => setAsks("snapshot")}>
            Snapshot
          </button>
          <button type="button" disabled={vm.status !== "running"} onClick={() => setAsks("fork")}>
            Fork
          </button>
          <button type="button" class="danger" onClick={() => setAsks("delete")}>
            Delete
          </button>
        </div>
      </header>
      {error ? <Problem error={error} /> : null}
      {asks === "delete" && (
        <Confirm
          title={`Delete ${vm.name}?`}
          verb={`Delete ${vm.name}`}
          close={close}
          work={async () => {
            await remove(`${path}?force=true`);
            go("vms");
          }}
        >
          <p>The VM {isUp(vm) ? "is ended at once and " : ""}goes with its disk. Its snapshots stay.</p>
        </Confirm>
      )}
      {asks === "snapshot" && (
        <Name title={`Snapshot of ${vm.name}`} verb="Take it" hint="lower case, digits, . _ -; empty: the VM's name and a number" may="empty" close={close} work={(name) => post(`${path}/snapshots`, { name: name || null })} done={() => go("snapshots")} />
      )}
      {asks === "fork" && (
        <Name title={`Fork ${vm.name}`} verb="Fork it" hint="the new VM's name; it goes on from this instant" close={close} work={(name) => post(`${path}/fork`, { names: [name] })} done={(name) => go(`vms/${quoted(name)}`)} />
      )}
    </>
  );
}

function Name(props: { title: string; verb: string; hint: string; may?: "empty"; close: () => void; work: (name: string) => Promise<unknown>; done: (name: string) => void }) {
  const [name, setName] = useState("");
  const [error, tell] = useState<unknown>(null);
  return (
    <Dialog title={props.title} close={props.close}>
      <Field label="Name" hint={props.hint}>
        <input value={name} autocomplete="off" onInput={(event) => setName(event.currentTarget.value)} />
      </Field>
      {error ? <Problem error={error} /> : null}
      <div class="actions">
        <button type="button" onClick={props.close}>
          Cancel
        </button>
        <Act
          kind="primary"
          tell={tell}
          disabled={!name && props.may !== "empty"}
          work={async () => {
            await props.work(name);
            props.close();
            props.done(name);
          }}
        >
          {props.verb}
        </Act>
      </div>
    </Dialog>
  );
}

function Gone({ name }: { name: string }) {
  return (
    <Empty title={`There is no VM ${name}`}>
      <p>
        It may have been deleted. <a href="#/vms">All VMs</a>
      </p>
    </Empty>
  );
}
