// SPDX-License-Identifier: Apache-2.0
// One keyboard: letters go places, / searches, j and k walk the rows of a table, ? tells all of it.
import { useEffect } from "preact/hooks";
import { Dialog } from "./parts";

export type Hints = (readonly [keys: string, meaning: string, target: string])[];
const ALWAYS = [
  ["/", "Search in this view"],
  ["j, k", "Next and previous row"],
  ["Enter", "Open the row"],
  ["?", "These keys"],
] as const;

// A dialog that was closed has the focus for another moment.
const takesText = (node: EventTarget | null) =>
  node instanceof HTMLElement && (/^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName) || node.isContentEditable || node.closest(".xterm, dialog[open]") !== null);

function walk(step: number) {
  const rows = [...document.querySelectorAll<HTMLElement>("main [data-row]")];
  const at = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))];
  next?.focus();
}

export function useKeys(hints: Hints, showHelp: () => void) {
  useEffect(() => {
    // A g waits for its second key without a time limit: not everybody types fast.
    let prefix = "";
    const heed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.altKey || event.metaKey || takesText(event.target)) return;
      const pair = `${prefix} ${event.key}`;
      const typed = hints.some(([keys]) => keys === pair) ? pair : event.key;
      prefix = typed === "g" ? "g" : "";
      const hint = hints.find(([keys]) => keys === typed);
      const search = document.querySelector<HTMLInputElement>("main input[type=search]");
      if (hint) location.hash = hint[2];
      else if (typed === "?") showHelp();
      else if (typed === "/" && search) search.focus();
      else if (typed === "j") walk(1);
      else if (typed === "k") walk(-1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", heed);
    return () => removeEventListener("keydown", heed);
  }, []);
}

export function Keys({ hints, close }: { hints: Hints; close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">
        {[...hints, ...ALWAYS].map(([keys, meaning]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key.replace(",", "")}</kbd>
              ))}
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <div class="actions">
        <button type="button" class="primary" onClick={close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
