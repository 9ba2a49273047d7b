import type { StagingStats } from '../api/generated/schema';
import { bytes } from '../format/amount';

/** monthly is what so many bytes cost in a month at a price per GiB. */
export function monthly(stored: number, price: number, currency: string): string {
  const cost = (stored / 2 ** 30) * price;
  return `${currency}${cost >= 100 ? cost.toFixed(0) : cost.toFixed(2)}`;
}

/** saved says what deduplication and compression keep out of the bucket. */
export function saved(s: Pick<StagingStats, 'logical_bytes' | 'bytes' | 'dedup_ratio' | 'compression_ratio'>): string {
  const less = s.logical_bytes - s.bytes;
  if (less <= 0) return 'nothing yet';
  return `${bytes(less)}: ${s.dedup_ratio.toFixed(1)}× by deduplication, ${s.compression_ratio.toFixed(1)}× by compression`;
}
