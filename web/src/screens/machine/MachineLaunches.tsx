import { api } from '../../api/client';
import type { MachineInfo } from '../../api/generated/schema';
import { Loaded } from '../../parts/Loaded';
import { Nothing } from '../../parts/Nothing';
import { LaunchTable } from '../launches/LaunchTable';

/** MachineLaunches are the tests and cutovers of one machine. */
export function MachineLaunches({ m }: { m: MachineInfo }) {
  const query = api.useQuery('get', '/api/v1/launches', { params: { query: { machine: m.id, limit: 50 } } });
  return (
    <Loaded query={query}>
      {(page) => page.items.length === 0
        ? <Nothing title="It was never launched">A test brings a copy of it up and leaves the source alone. It is the next step once there is a restpoint.</Nothing>
        : <LaunchTable launches={page.items} label="Launches of this machine" />}
    </Loaded>
  );
}
