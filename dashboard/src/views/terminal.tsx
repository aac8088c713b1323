// SPDX-License-Identifier: Apache-2.0
// A shell in a VM, or its serial console. xterm.js comes when the first terminal is opened.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Vm } from "../api_types";
import { Empty } from "../parts";
import { isUp } from "../words";

export function Terminal({ vm, kind }: { vm: Vm; kind: "shell" | "console" }) {
  const box = useRef<HTMLDivElement>(null);
  const [told, tell] = useState("Opening…");
  const [round, setRound] = useState(0);
  const up = isUp(vm);
  useEffect(() => {
    if (!up || !box.current) return;
    const place = box.current;
    let close = () => {};
    let wanted = true;
    import("./xterm_session").then(({ openSession }) => {
      if (wanted) close = openSession(place, vm.name, kind, tell);
    });
    return () => {
      wanted = false;
      close();
    };
  }, [up, round]);
  if (!up)
    return (
      <Empty title="It does not run">
        <p>Start it to open its {kind}.</p>
      </Empty>
    );
  return (
    <section class="fill">
      <p class="terminal-state" role="status">
        {told}
        {told.startsWith("Ended") && (
          <button type="button" onClick={() => setRound(round + 1)}>
            Open again
          </button>
        )}
      </p>
      <div class="screen" ref={box} data-kind={kind} />
    </section>
  );
}
