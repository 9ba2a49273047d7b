import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import type { LaunchInfo } from '../../api/generated/schema';
import { sizeOf } from '../../app/launches';
import { seconds, span } from '../../format/time';
import { shown, words } from '../../format/text';
import { CostOf } from '../../parts/CostOf';
import { Name } from '../../parts/Name';
import { LaunchState } from '../../parts/states';
import { Ago } from '../../parts/Time';

/** LaunchTable lists launches with their age, their end, and what they take up and cost at the provider. */
export function LaunchTable({ launches, label }: { launches: LaunchInfo[]; label: string }) {
  return (
    <Table aria-label={label} variant="compact">
      <Thead><Tr><Th>Machine</Th><Th>Kind</Th><Th>State</Th><Th>Began</Th><Th>Took / forecast</Th><Th>Reverted by itself</Th><Th>At</Th><Th>Cost</Th></Tr></Thead>
      <Tbody>
        {launches.map((l) => (
          <Tr key={l.id}>
            <Td dataLabel="Machine"><Link to="/launches/$launch" params={{ launch: l.id }}><Name text={l.machine_name} most={40} /></Link></Td>
            <Td dataLabel="Kind">{words(l.kind)}</Td>
            <Td dataLabel="State" modifier="breakWord"><LaunchState state={l.state} /> {l.failure && shown(l.failure.reason, 120)}</Td>
            <Td dataLabel="Began"><Ago at={l.created} /></Td>
            <Td dataLabel="Took / forecast" className="om-number">
              {seconds(l.took) > 0 ? span(l.took) : '–'} / {seconds(l.forecast) > 0 ? span(l.forecast) : 'unknown'}
            </Td>
            <Td dataLabel="Reverted by itself"><Ago at={l.deadline} none="no" /></Td>
            <Td dataLabel="At" modifier="breakWord">{shown(l.provider, 40)}{sizeOf(l) && <div className="om-quiet">{sizeOf(l)}</div>}</Td>
            <Td dataLabel="Cost" className="om-number">{l.size > 0 ? <CostOf size={l.size} cpus={l.template.cpus ?? 0} since={l.created} ended={l.ended} /> : '–'}</Td>
          </Tr>
        ))}
      </Tbody>
    </Table>
  );
}
