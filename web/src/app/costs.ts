import { isSet } from '../format/time';
import type { Preferences } from './preferences';

const hoursOfMonth = 730;

/** Cost is what a copy at a provider costs, at the prices that the viewer gave. */
export interface Cost {
  day: number;
  soFar: number;
}

/** costOf counts volumes of so many bytes, and processors while they run. undefined: no price is known. */
export function costOf(p: Pick<Preferences, 'volumePrice' | 'cpuPrice'>, size: number, cpus: number, since: string | undefined, until: Date): Cost | undefined {
  if (p.volumePrice <= 0 && (p.cpuPrice <= 0 || cpus <= 0)) return undefined;
  const hour = ((size / 2 ** 30) * p.volumePrice) / hoursOfMonth + cpus * p.cpuPrice;
  const hours = isSet(since) ? Math.max(0, until.getTime() - Date.parse(since)) / 3_600_000 : 0;
  return { day: hour * 24, soFar: hour * hours };
}

/** money writes an amount; one that is not nothing is never written as nothing. */
export function money(amount: number, currency: string): string {
  if (amount > 0 && amount < 0.01) return `below ${currency}0.01`;
  return `${currency}${amount >= 100 ? amount.toFixed(0) : amount.toFixed(2)}`;
}
