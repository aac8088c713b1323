// SPDX-License-Identifier: Apache-2.0
// The VMs as they are now: read once, then kept by the daemon's events.
import { useEffect, useReducer } from "preact/hooks";
import { ApiError, get, getAll, quoted, readEvents } from "./api";
import type { Event, Vm } from "./api_types";
import { isOfDeployment } from "./words";

// Where this many VMs changed at once, the whole list costs less than each of them.
const MANY = 20;
const COALESCE_MS = 80;
const RETRY_MS = 2000;

export type Connection = "opening" | "live" | "lost";

class Fleet {
  vms = new Map<string, Vm>();
  recent: Event[] = [];
  connection: Connection = "opening";
  private waiting = new Set<string>();
  private timer = 0;
  private listeners = new Set<() => void>();

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private tell() {
    for (const listener of this.listeners) listener();
  }

  /** Follow the daemon until `signal`; a connection that breaks is opened again and everything read anew. */
  async follow(signal: AbortSignal) {
    while (!signal.aborted) {
      try {
        for await (const event of readEvents<Event>("/events/vms?follow=true", signal)) {
          if (event === null) await this.load();
          else this.heed(event);
        }
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return;
      }
      if (signal.aborted) return;
      this.connection = "lost";
      this.tell();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  private async load() {
    const rows = await getAll<Vm>("/vms");
    this.vms = new Map(rows.map((vm) => [vm.name, vm]));
    this.connection = "live";
    this.tell();
  }

  private heed(event: Event) {
    this.recent = [event, ...this.recent].slice(0, 500);
    if (event.vm && !isOfDeployment(event)) this.refresh(event.vm);
    this.tell();
  }

  /** Read this VM again, soon and together with others that changed. */
  refresh(name: string) {
    this.waiting.add(name);
    this.timer ||= window.setTimeout(() => this.readWaiting(), COALESCE_MS);
  }

  private async readWaiting() {
    const names = [...this.waiting];
    this.waiting.clear();
    this.timer = 0;
    try {
      if (names.length > MANY) return await this.load();
      const found = await Promise.all(names.map((name) => readVm(name)));
      names.forEach((name, index) => {
        const vm = found[index];
        if (vm) this.vms.set(name, vm);
        else this.vms.delete(name);
      });
    } catch {
      return; // the event stream has broken as well, and reads everything when it is back
    }
    this.tell();
  }
}

async function readVm(name: string): Promise<Vm | null> {
  try {
    return await get<Vm>(`/vms/${quoted(name)}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

export const fleet = new Fleet();

export function useFleet(): Fleet {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => fleet.listen(() => redraw(undefined as never)), []);
  return fleet;
}
