const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** bytes writes a number of bytes with three digits. */
export function bytes(n: number | undefined): string {
  if (n === undefined || !Number.isFinite(n)) return '\u2013';
  let value = Math.abs(n);
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const text = unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(value >= 9.995 ? 1 : 2);
  return `${n < 0 ? '\u2212' : ''}${text} ${units[unit]}`;
}

/** rate writes bytes per second. */
export function rate(n: number | undefined): string {
  return n === undefined ? '\u2013' : `${bytes(n)}/s`;
}

/** percent of a whole, from 0 to 100; 0 of nothing is 0. A part that is not the whole is never 100. */
export function percent(part: number, whole: number): number {
  if (whole <= 0) return 0;
  const p = Math.floor((part / whole) * 100);
  return Math.max(0, Math.min(100, p));
}

/** count writes a number with its noun. */
export function count(n: number, one: string, many = one + 's'): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}
