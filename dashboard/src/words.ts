// SPDX-License-Identifier: Apache-2.0
// Values as people read them.
import type { Event, PublishedPort, Vm } from "./api_types";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function showBytes(count: number): string {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${UNITS[unit]}`;
}

export function showSpan(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const secondsSince = (time: string) => (Date.now() - Date.parse(time)) / 1000;

export function showTime(time: string): string {
  const at = new Date(time);
  const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return at.toDateString() === new Date().toDateString() ? clock : `${at.toLocaleDateString()} ${clock}`;
}

export const showPort = (port: PublishedPort) => `${port.host_ip}:${port.host_port} → ${port.guest_port}${port.protocol === "udp" ? "/udp" : ""}`;

/** Escape sequences and other controls of a terminal, which a line of text cannot show. */
export const plainLine = (line: string) => line.replace(/\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)/g, "").replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");

// Labels by which `volar compose` knows its VMs; others that begin like them are the programs' own as well.
export const PROJECT_LABEL = "volant.compose.project";
export const SERVICE_LABEL = "volant.compose.service";
export const DEPLOYMENT_LABEL = "volant.deployment";
const OWN_LABELS = "volant.";

/** What people have labelled it with. */
export const listLabels = (vm: Vm) => Object.entries(vm.labels).filter(([name]) => !name.startsWith(OWN_LABELS));

/** A job whose work is done: it is stopped, and that is well. */
export const isFinished = (vm: Vm) => vm.status === "stopped" && vm.exit_code === 0 && vm.restart === "no";

/** Whether it tells of a deployment, by whose name it goes, rather than of a VM. */
export const isOfDeployment = (event: Event) => event.kind === "deployment";

export type Tone = "good" | "busy" | "bad" | "idle";

/** How a VM is, in a word and a tone. */
export function judge(vm: Vm): { word: string; tone: Tone } {
  if (vm.status === "failed") return { word: "failed", tone: "bad" };
  if (vm.status === "running") {
    if (vm.health === "unhealthy") return { word: "unhealthy", tone: "bad" };
    if (vm.health === "healthy") return { word: "healthy", tone: "good" };
    return vm.health === "starting" ? { word: "running, starting", tone: "busy" } : { word: "running", tone: "good" };
  }
  if (vm.status === "starting" || vm.status === "stopping") return { word: vm.status, tone: "busy" };
  if (isFinished(vm)) return { word: "finished", tone: "idle" };
  return { word: vm.status, tone: vm.exit_code ? "bad" : "idle" };
}

/** Whether somebody who connects to it is answered: one that sleeps wakes. */
export const isReachable = (vm: Vm) => isUp(vm) || vm.status === "suspended";

/** Whether it has a process now. */
export const isUp = (vm: Vm) => ["starting", "running", "paused", "stopping"].includes(vm.status);
