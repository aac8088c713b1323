// SPDX-License-Identifier: Apache-2.0
// What views are put together from.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import type { Vm } from "./api_types";
import { judge, type Tone } from "./words";

export function Status({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`status ${tone}`}>
      <span class="dot" aria-hidden="true" />
      {children}
    </span>
  );
}

export function VmStatus({ vm }: { vm: Vm }) {
  const { word, tone } = judge(vm);
  return <Status tone={tone}>{word}</Status>;
}

/** In a row of a VM: how it is, and why where something is wrong. */
export function StateCell({ vm }: { vm: Vm }) {
  const reason = vm.status_reason || vm.health_reason;
  return (
    <td data-label="State">
      <VmStatus vm={vm} />
      {reason && <span class="reason">{reason}</span>}
    </td>
  );
}

export function PluginCell({ vm }: { vm: Vm }) {
  return (
    <td data-label="Plugin">
      {vm.plugin.name} <span class="quiet">{vm.plugin.version}</span>
    </td>
  );
}

/** An error as the daemon tells it: what, details, what to try. */
export function Problem({ error }: { error: unknown }) {
  const told = error instanceof ApiError ? error : new ApiError(0, String(error));
  return (
    <div class="callout bad" role="alert">
      <p class="what">{told.message}</p>
      {told.details.length > 0 && <pre>{told.details.join("\n")}</pre>}
      {told.resolution && <p>Try: {told.resolution}</p>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Command({ children }: { children: string }) {
  return <code class="command">{children}</code>;
}

export function Heading({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <header class="heading">
      <h1>{title}</h1>
      <div class="actions">{children}</div>
    </header>
  );
}

/** A button whose work may take a while and fail: it is off meanwhile, and `tell` hears why. */
export function Act(props: {
  work: () => Promise<unknown>;
  tell: (error: unknown) => void;
  kind?: "primary" | "danger" | "quiet";
  disabled?: boolean;
  label?: string;
  children: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const act = async () => {
    setBusy(true);
    props.tell(null);
    try {
      await props.work();
    } catch (error) {
      props.tell(error);
    }
    setBusy(false);
  };
  return (
    <button type="button" class={props.kind ?? ""} disabled={busy || props.disabled} aria-busy={busy} aria-label={props.label} onClick={act}>
      {props.children}
    </button>
  );
}

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={close}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

/** Ask before something is lost. */
export function Confirm(props: { title: string; verb: string; close: () => void; work: () => Promise<unknown>; children: ComponentChildren }) {
  const [error, tell] = useState<unknown>(null);
  return (
    <Dialog title={props.title} close={props.close}>
      {props.children}
      {error ? <Problem error={error} /> : null}
      <div class="actions">
        <button type="button" onClick={props.close}>
          Keep
        </button>
        <Act
          kind="danger"
          tell={tell}
          work={async () => {
            await props.work();
            props.close();
          }}
        >
          {props.verb}
        </Act>
      </div>
    </Dialog>
  );
}

/** What a view reads when it opens, and again when `keys` change or `again` is called. */
export function useLoaded<T>(load: () => Promise<T>, keys: unknown[]): { value: T | null; error: unknown; again: () => void } {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    let wanted = true;
    load().then(
      (found) => wanted && (setValue(() => found), setError(null)),
      (failed) => wanted && setError(failed),
    );
    return () => {
      wanted = false;
    };
  }, [...keys, round]);
  return { value, error, again: () => setRound((count) => count + 1) };
}

export function Field(props: { label: string; hint?: string; children: JSX.Element }) {
  return (
    <label class="field">
      <span class="label">{props.label}</span>
      {props.children}
      {props.hint && <span class="hint">{props.hint}</span>}
    </label>
  );
}

/** Draw again each `ms`, for what is told as "since". */
export function useTick(ms: number) {
  const [, setCount] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setCount((count) => count + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}
