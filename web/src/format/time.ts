/** seconds reads a time span of the API: 1h2m3.5s, 250ms, -1ns. What is none is 0. */
export function seconds(span: string | undefined): number {
  if (!span) return 0;
  const size: Record<string, number> = { h: 3600, m: 60, s: 1, ms: 1e-3, us: 1e-6, 'µs': 1e-6, ns: 1e-9 };
  let total = 0;
  for (const [, number, unit] of span.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|h|m|s)/g)) total += Number(number) * (size[unit ?? ''] ?? 0);
  return span.startsWith('-') ? -total : total;
}

/** duration writes a time span in its two largest units. */
export function duration(secs: number): string {
  const s = Math.abs(secs);
  const sign = secs < 0 ? '\u2212' : '';
  if (s === 0) return '0 s';
  if (s < 0.9995) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 10) return `${sign}${(Math.round(s * 10) / 10).toString()} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${sign}${whole} s`;
  const steps: [number, string][] = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = steps.findIndex(([size]) => whole >= size);
  const [size, unit] = steps[at]!;
  const [next, small] = steps[at + 1] ?? [1, ''];
  const rest = Math.floor((whole % size) / next);
  return `${sign}${Math.floor(whole / size)} ${unit}${rest > 0 ? ` ${rest} ${small}` : ''}`;
}

/** span is duration of what the API says. */
export function span(text: string | undefined): string {
  return duration(seconds(text));
}

/** goSpan writes seconds as the API reads them. */
export function goSpan(secs: number): string {
  return `${Math.round(secs)}s`;
}

/** ago writes how long ago a time was, or how far away it is. */
export function ago(at: Date, now: Date): string {
  const secs = (now.getTime() - at.getTime()) / 1000;
  if (Math.abs(secs) < 5) return 'just now';
  return secs >= 0 ? `${duration(Math.floor(secs))} ago` : `in ${duration(Math.ceil(-secs))}`;
}

/** isSet reports whether the API means a time: it writes year 1 for none. */
export function isSet(at: string | undefined): at is string {
  return !!at && !at.startsWith('0001-');
}

const pieces: Intl.DateTimeFormatOptions = {
  year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
};

// Making a format takes longer than using it a hundred times.
const formats = new Map<string | undefined, Intl.DateTimeFormat>();

function format(zone: string | undefined): Intl.DateTimeFormat {
  let f = formats.get(zone);
  if (!f) {
    f = new Intl.DateTimeFormat('en-GB', { ...pieces, timeZone: zone, timeZoneName: 'short' });
    formats.set(zone, f);
  }
  return f;
}

/** clock writes a time as 2026-11-30 14:03:05, in the zone that is named, with the zone's name. */
export function clock(at: Date, zone?: string): string {
  const parts = format(zone).formatToParts(at);
  const get = (type: string) => parts.find((p) => p.type === type)?.value ?? '';
  return `${get('year')}-${get('month')}-${get('day')} ${get('hour')}:${get('minute')}:${get('second')} ${get('timeZoneName')}`;
}
