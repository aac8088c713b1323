// SPDX-License-Identifier: Apache-2.0
// One terminal on one WebSocket, with acknowledged flow control: the daemon sends at most WINDOW_BYTES that xterm.js
// has not dealt with, so that nothing is dropped however much a program writes and however slow the screen is.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { openSocket, quoted } from "../api";

const WINDOW_BYTES = 1 << 20;
const ACKNOWLEDGE_BYTES = 1 << 17;
const THEME = { background: "#101716", foreground: "#dfe9e6", cursor: "#6fd0c4", selectionBackground: "#2f6f69" };

export function openSession(place: HTMLElement, vm: string, kind: "shell" | "console", tell: (words: string) => void): () => void {
  const terminal = new Terminal({ cursorBlink: true, fontSize: 14, fontFamily: "ui-monospace, Menlo, Consolas, monospace", scrollback: 5000, screenReaderMode: true, theme: THEME });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  const size = `columns=${terminal.cols}&rows=${terminal.rows}`;
  const socket = openSocket(`/vms/${quoted(vm)}/${kind}?window=${WINDOW_BYTES}${kind === "shell" ? `&${size}` : ""}`);
  let waiting = 0;
  let received = 0;

  socket.onopen = () => {
    tell(kind === "shell" ? `A shell in ${vm}` : `The serial console of ${vm}`);
    terminal.focus();
  };
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    const bytes = new Uint8Array(data);
    terminal.write(bytes, () => {
      waiting += bytes.length;
      received += bytes.length;
      place.dataset["receivedBytes"] = String(received);
      if (waiting >= ACKNOWLEDGE_BYTES || waiting === bytes.length) acknowledge();
    });
  };
  const acknowledge = () => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ acknowledged: waiting }));
    waiting = 0;
  };
  socket.onclose = ({ reason }) => tell(`Ended${reason ? `: ${reason}` : ""}`);
  terminal.onData((text) => socket.readyState === WebSocket.OPEN && socket.send(new TextEncoder().encode(text)));
  terminal.onBinary((text) => socket.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  if (kind === "shell") terminal.onResize(({ cols, rows }) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ columns: cols, rows })));
  const watcher = new ResizeObserver(() => fit.fit());
  watcher.observe(place);
  return () => {
    watcher.disconnect();
    socket.onclose = null;
    socket.close();
    terminal.dispose();
  };
}

/** xterm.js writes its theme into style elements, which the page's policy refuses: they become adopted sheets. */
function adoptStyleElements(page: Document) {
  const createElement = page.createElement.bind(page) as (name: string, options?: ElementCreationOptions) => HTMLElement;
  page.createElement = ((name: string, options?: ElementCreationOptions) => {
    if (name !== "style") return createElement(name, options);
    const element = createElement("template");
    const sheet = new CSSStyleSheet();
    page.adoptedStyleSheets.push(sheet);
    Object.defineProperty(element, "textContent", { get: () => "", set: (text: string) => sheet.replaceSync(text) });
    element.remove = () => {
      page.adoptedStyleSheets = page.adoptedStyleSheets.filter((other) => other !== sheet);
      Element.prototype.remove.call(element);
    };
    return element;
  }) as Document["createElement"];
}

adoptStyleElements(document);
