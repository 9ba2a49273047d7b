import { Link } from '@tanstack/react-router';
import { costOf, money } from '../app/costs';
import { usePreferences } from '../app/preferences';
import { isSet } from '../format/time';
import { useNow } from './Time';

interface Props {
  /** Bytes of all volumes. */
  size: number;
  /** Processors that run; 0 for volumes that only stand. */
  cpus: number;
  since: string | undefined;
  /** When it was over; unset: it is not. */
  ended?: string;
}

/** CostOf says what a copy cost so far and costs each day, at the viewer's prices: the master knows none. */
export function CostOf({ size, cpus, since, ended }: Props) {
  const preferences = usePreferences();
  const now = useNow();
  const over = isSet(ended);
  const cost = costOf(preferences, size, cpus, since, over ? new Date(ended) : now);
  if (!cost) return <Link to="/settings">set prices</Link>;
  return (
    <>
      {money(cost.soFar, preferences.currency)}
      {!over && <div className="om-quiet">{money(cost.day, preferences.currency)} a day</div>}
    </>
  );
}
