// SPDX-License-Identifier: Apache-2.0
// The public REST API, as this page calls it. The cookie of the session goes along by itself.
import type { ErrorReply } from "./api_types";

const ROOT = "/api/v1";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: string[] = [],
    readonly resolution = "",
  ) {
    super(message);
  }
}

let tellSessionEnded = () => {};
export function onSessionEnded(tell: () => void) {
  tellSessionEnded = tell;
}

async function request(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const options: RequestInit = { method, credentials: "same-origin", cache: "no-store" };
  if (signal) options.signal = signal;
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  let reply: Response;
  try {
    reply = await fetch(path.startsWith("//") ? path.slice(1) : ROOT + path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "cannot reach the daemon", [], "see 'volar daemon status', then load this page again");
  }
  if (reply.ok) return reply;
  if (reply.status === 401) tellSessionEnded();
  const told = (await reply.json().catch(() => null)) as ErrorReply | null;
  throw new ApiError(reply.status, told?.error ?? `the daemon answered with HTTP ${reply.status}`, told?.details, told?.resolution);
}

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const reply = await request(method, path, body);
  const text = await reply.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(path: string, body: unknown = {}) => call<T>("POST", path, body);
export const remove = (path: string) => call<void>("DELETE", path);
export const quoted = encodeURIComponent;

/** A whole list, page by page: the header Next-After names the last of a page that others follow. */
export async function getAll<T>(path: string): Promise<T[]> {
  const rows: T[] = [];
  let after = "";
  for (;;) {
    const reply = await request("GET", `${path}?after=${quoted(after)}`);
    rows.push(...((await reply.json()) as T[]));
    const next = reply.headers.get("Next-After");
    if (!next || next === after) return rows;
    after = next;
  }
}

/** The lines of a reply as they come, until it ends or `signal` is given. */
export async function* readLines(path: string, signal?: AbortSignal): AsyncGenerator<string> {
  const reply = await request("GET", path, undefined, signal);
  if (!reply.body) return;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The data of each server-sent event; `null` once the stream is open. */
export async function* readEvents<T>(path: string, signal?: AbortSignal): AsyncGenerator<T | null> {
  for await (const line of readLines(path, signal)) {
    if (line.startsWith(":")) yield null;
    else if (line.startsWith("data:")) yield JSON.parse(line.slice(5)) as T;
  }
}

export async function openSession(code: string): Promise<void> {
  await request("POST", "//session", { code });
}

export async function closeSession(): Promise<void> {
  await request("DELETE", "//session");
}

export function openSocket(path: string): WebSocket {
  const socket = new WebSocket(`ws://${location.host}${ROOT}${path}`);
  socket.binaryType = "arraybuffer";
  return socket;
}
