// SPDX-License-Identifier: Apache-2.0
// Of a long list, the rows near the screen: a thousand VMs then cost what fifty cost, at first and at each event.
import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";

// Up to here everything is in the page, where the browser's own search finds it.
const FEW = 100;
const BESIDE = 20;
const STEP = 10;

export interface Window {
  first: number;
  last: number;
  /** Pixels that the rows before and after take. */
  above: number;
  below: number;
}

/** Which of `count` rows of `body` belong into the page now. Rows that differ in height are taken at their mean. */
export function useWindow(body: RefObject<HTMLElement | null>, count: number): Window {
  const [place, setPlace] = useState({ first: 0, last: FEW / 2, height: 0 });
  useEffect(() => {
    if (count <= FEW) return;
    let frame = 0;
    const measure = () => {
      frame = 0;
      const rows = body.current?.querySelectorAll<HTMLElement>("[data-row]");
      const [begin, end] = [rows?.[0], rows?.[rows.length - 1]];
      if (!body.current || !rows || !begin || !end) return;
      setPlace((before) => {
        const height = before.height || (end.getBoundingClientRect().bottom - begin.getBoundingClientRect().top) / rows.length;
        const scrolled = -(body.current?.getBoundingClientRect().top ?? 0);
        const first = STEP * Math.floor(Math.min(count - 1, Math.max(0, scrolled / height - BESIDE)) / STEP);
        const last = STEP * Math.ceil(((scrolled + innerHeight) / height + BESIDE) / STEP);
        return first === before.first && last === before.last && height === before.height ? before : { first, last, height };
      });
    };
    const heed = () => {
      frame ||= requestAnimationFrame(measure);
    };
    const forget = () => {
      setPlace((before) => ({ ...before, height: 0 }));
      heed();
    };
    heed();
    addEventListener("scroll", heed, { passive: true });
    addEventListener("resize", forget);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", heed);
      removeEventListener("resize", forget);
    };
  }, [count]);
  if (count <= FEW) return { first: 0, last: count, above: 0, below: 0 };
  const first = Math.min(place.first, count);
  const last = Math.max(first, Math.min(place.last, count));
  return { first, last, above: first * place.height, below: (count - last) * place.height };
}
