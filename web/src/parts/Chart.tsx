import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { isDark, usePreferences } from '../app/preferences';

interface Props {
  /** What it shows, in one sentence with its figures: a canvas tells nothing to those who cannot see it. */
  text: string;
  /** Seconds since 1970. */
  times: number[];
  values: (number | null)[];
  label: string;
  write: (v: number) => string;
}

const height = 180;

/** Chart draws one series over time, in the colours of the theme. */
export function Chart({ text, times, values, label, write }: Props) {
  const box = useRef<HTMLDivElement>(null);
  usePreferences();
  const dark = isDark();
  useEffect(() => {
    const at = box.current;
    if (!at) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (token: string) => style.getPropertyValue(`--pf-t--global--${token}`).trim();
    const axis = { stroke: colour('text--color--regular'), grid: { stroke: colour('border--color--default'), width: 1 }, ticks: { show: false } };
    const line = colour('color--brand--default');
    const chart = new uPlot(
      {
        width: at.clientWidth, height,
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
        axes: [axis, { ...axis, size: 84, values: (_u, ticks) => ticks.map(write) }],
        series: [{}, { label, stroke: line, fill: `color-mix(in srgb, ${line} 20%, transparent)`, width: 2, points: { size: 5 } }],
      },
      [times, values], at,
    );
    const watch = new ResizeObserver(() => chart.setSize({ width: at.clientWidth, height }));
    watch.observe(at);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [dark, times, values, label, write]);
  return (
    <figure>
      <figcaption>{text}</figcaption>
      <div ref={box} className="om-chart" aria-hidden="true" />
    </figure>
  );
}
