// SPDX-License-Identifier: Apache-2.0
// What a VM's processes write, followed and filtered.
import { useEffect, useRef, useState } from "preact/hooks";
import { quoted, readLines } from "../api";
import type { LogLine, Vm } from "../api_types";
import { Problem } from "../parts";
import { isUp, plainLine, showTime } from "../words";

// More than these are dropped from the top: `volar vms logs` has all of them.
const MOST_LINES = 3000;
const AT_END_PIXELS = 24;

export function Logs({ vm }: { vm: Vm }) {
  const [lines, setLines] = useState<LogLine[]>([]);
  const [process, setProcess] = useState("");
  const [search, setSearch] = useState("");
  const [follows, setFollows] = useState(true);
  const [error, setError] = useState<unknown>(null);
  const box = useRef<HTMLDivElement>(null);
  const up = isUp(vm);

  useEffect(() => {
    const ending = new AbortController();
    setLines([]);
    setError(null);
    followLogs(vm.name, process, ending.signal, (more) => setLines((before) => [...before, ...more].slice(-MOST_LINES))).catch((failed) => ending.signal.aborted || setError(failed));
    return () => ending.abort();
  }, [vm.id, process, up]);

  useEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follows, search]);

  const heedScroll = () => {
    const at = box.current;
    if (at) setFollows(at.scrollHeight - at.scrollTop - at.clientHeight < AT_END_PIXELS);
  };
  const wanted = search.toLowerCase();
  const shown = wanted ? lines.filter((line) => line.line.toLowerCase().includes(wanted)) : lines;
  const names = [...new Set([...vm.processes.map((one) => one.name), ...lines.map((line) => line.process)])].sort();
  return (
    <section class="fill">
      <div class="filters">
        <input type="search" placeholder="Show lines with…" aria-label="Show lines with" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        <select aria-label="Process" value={process} onChange={(event) => setProcess(event.currentTarget.value)}>
          <option value="">Every process</option>
          {names.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <label class="check">
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
          Follow
        </label>
      </div>
      {error ? <Problem error={error} /> : null}
      <div class="log" ref={box} role="log" aria-label={`Logs of ${vm.name}`} tabIndex={0} onScroll={heedScroll}>
        {shown.map((line, index) => (
          <div key={index} class={`line ${line.stream}`}>
            <time dateTime={line.time}>{showTime(line.time)}</time>
            <span class="process">{line.process}</span>
            <span class="text">{plainLine(line.line)}</span>
          </div>
        ))}
        {shown.length === 0 && <p class="none">{lines.length ? "No line has this." : "Nothing was written yet."}</p>}
      </div>
    </section>
  );
}

/** Hand over lines as they come, a screen's frame at a time. */
async function followLogs(name: string, process: string, signal: AbortSignal, hand: (lines: LogLine[]) => void) {
  let waiting: LogLine[] = [];
  let isPlanned = false;
  const flush = () => {
    isPlanned = false;
    hand(waiting);
    waiting = [];
  };
  const query = `follow=true&tail=${MOST_LINES}&process=${quoted(process)}`;
  for await (const text of readLines(`/vms/${quoted(name)}/logs?${query}`, signal)) {
    if (!text) continue;
    waiting.push(JSON.parse(text) as LogLine);
    if (!isPlanned) {
      isPlanned = true;
      requestAnimationFrame(flush);
    }
  }
}
