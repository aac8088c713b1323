// SPDX-License-Identifier: Apache-2.0
// A small line chart: SVG, its present value in words, a value at each place under the pointer.
import { useState } from "preact/hooks";

export interface Line {
  name: string;
  points: { at: number; value: number }[];
}

const WIDTH = 300;
const HEIGHT = 90;
const LEAST_SECONDS = 60;
const MOST_SECONDS = 300;

export function Chart({ title, lines, most, show }: { title: string; lines: Line[]; most: number; show: (value: number) => string }) {
  const [pointed, setPointed] = useState<number | null>(null);
  const values = lines.flatMap((line) => line.points.map((point) => point.value)).filter(Number.isFinite);
  const top = most || Math.max(...values, 1) * 1.15;
  const end = Math.max(...lines.flatMap((line) => line.points.map((point) => point.at)), 0);
  const begin = Math.min(...lines.flatMap((line) => line.points.map((point) => point.at)), end);
  const span = Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, end - begin));
  const x = (at: number) => WIDTH - ((end - at) / span) * WIDTH;
  const y = (value: number) => HEIGHT - (Math.min(value, top) / top) * HEIGHT;
  const nearest = (line: Line) => {
    const at = pointed === null ? end : end - (1 - pointed) * span;
    return line.points.reduce<Line["points"][number] | null>((best, point) => (!best || Math.abs(point.at - at) < Math.abs(best.at - at) ? point : best), null);
  };
  const words = lines.map((line) => {
    const point = nearest(line);
    return { name: line.name, point, text: point && Number.isFinite(point.value) ? show(point.value) : "–" };
  });
  const heed = (event: PointerEvent & { currentTarget: SVGSVGElement }) => {
    const box = event.currentTarget.getBoundingClientRect();
    setPointed((event.clientX - box.left) / box.width);
  };
  return (
    <figure class="chart">
      <figcaption>
        <span class="title">{title}</span>
        {words.map((word, index) => (
          <span key={word.name} class={`value line-${index}`}>
            <b>{word.text}</b> {word.name}
          </span>
        ))}
        {most > 0 && <span class="quiet">of {show(most)}</span>}
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}: ${words.map((word) => `${word.text} ${word.name}`).join(", ")}`} onPointerMove={heed} onPointerLeave={() => setPointed(null)}>
        {[0.25, 0.5, 0.75].map((part) => (
          <line key={part} class="grid" x1="0" x2={WIDTH} y1={HEIGHT * part} y2={HEIGHT * part} />
        ))}
        {lines.map((line, index) => (
          <g key={line.name} class={`line-${index}`}>
            {index === 0 && <path class="area" d={`${draw(line, x, y)}V${HEIGHT}H${x(line.points[0]?.at ?? end)}Z`} />}
            <path class="stroke" d={draw(line, x, y)} />
          </g>
        ))}
        {pointed !== null && words[0]?.point && <line class="cursor" x1={x(words[0].point.at)} x2={x(words[0].point.at)} y1="0" y2={HEIGHT} />}
      </svg>
    </figure>
  );
}

function draw(line: Line, x: (at: number) => number, y: (value: number) => number): string {
  const known = line.points.filter((point) => Number.isFinite(point.value));
  if (!known.length) return `M${x(0)} ${HEIGHT}`;
  return known.map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`).join("");
}
