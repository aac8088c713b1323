// SPDX-License-Identifier: Apache-2.0
// What a VM uses: a few minutes of CPU, memory, disk and network, measured while this view is open.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, quoted } from "../api";
import type { Vm, VmStats } from "../api_types";
import { Chart } from "../chart";
import { Empty, Problem } from "../parts";
import { isUp, showBytes } from "../words";

const PERIOD_MS = 2000;
const MOST_SAMPLES = 150;

interface Sample {
  at: number;
  stats: VmStats;
}

export function Usage({ vm }: { vm: Vm }) {
  const [samples, setSamples] = useState<Sample[]>([]);
  const [error, setError] = useState<unknown>(null);
  const asks = useRef(false);
  const up = isUp(vm);
  useEffect(() => {
    if (!up) return;
    const measure = async () => {
      if (asks.current || document.visibilityState !== "visible") return;
      asks.current = true;
      try {
        const stats = await get<VmStats>(`/vms/${quoted(vm.name)}/stats`);
        setSamples((before) => [...before, { at: performance.now() / 1000, stats }].slice(-MOST_SAMPLES));
        setError(null);
      } catch (failed) {
        setError(failed);
      }
      asks.current = false;
    };
    measure();
    const timer = setInterval(measure, PERIOD_MS);
    return () => clearInterval(timer);
  }, [vm.id, up]);
  if (!up)
    return (
      <Empty title="It does not run">
        <p>It uses its disk, and nothing else.</p>
      </Empty>
    );
  const guest = (pick: (stats: NonNullable<VmStats["guest"]>) => number) => samples.map(({ at, stats }) => ({ at, value: stats.guest ? pick(stats.guest) : NaN }));
  const last = samples.at(-1)?.stats.guest;
  const percent = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} %`;
  const perSecond = (value: number) => `${showBytes(value)}/s`;
  const cpu = rates(guest((stats) => stats.cpu_microseconds)).map(({ at, value }) => ({ at, value: value / 1e4 / vm.resources.vcpu }));
  return (
    <>
      {error ? <Problem error={error} /> : null}
      <div class="charts">
        <Chart title="CPU" show={percent} most={100} lines={[{ name: "used", points: cpu }]} />
        <Chart title="Memory" show={showBytes} most={last?.memory_total_bytes ?? vm.resources.memory_mb * 2 ** 20} lines={[{ name: "used", points: guest((stats) => stats.memory_used_bytes) }]} />
        <Chart title="Disk" show={showBytes} most={last?.disk_total_bytes ?? 0} lines={[{ name: "used", points: guest((stats) => stats.disk_used_bytes) }]} />
        <Chart
          title="Network"
          show={perSecond}
          most={0}
          lines={[
            { name: "received", points: rates(guest((stats) => stats.network_received_bytes)) },
            { name: "sent", points: rates(guest((stats) => stats.network_sent_bytes)) },
          ]}
        />
        <Chart title="Memory on the host" show={showBytes} most={0} lines={[{ name: "resident", points: samples.map(({ at, stats }) => ({ at, value: stats.host_memory_bytes })) }]} />
        <Chart title="CPU on the host" show={percent} most={0} lines={[{ name: "of one", points: rates(samples.map(({ at, stats }) => ({ at, value: stats.host_cpu_seconds * 100 }))) }]} />
      </div>
    </>
  );
}

interface Point {
  at: number;
  value: number;
}

/** What a counter grew by in a second; nothing where it began anew. */
function rates(points: Point[]): Point[] {
  return points.slice(1).map((point, index) => {
    const before = points[index] as Point;
    const grown = point.value - before.value;
    return { at: point.at, value: grown >= 0 ? grown / (point.at - before.at) : NaN };
  });
}
