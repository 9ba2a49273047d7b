import { useState } from 'react';
import { Content, Progress } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api } from '../../api/client';
import { bytes, count, percent } from '../../format/amount';
import { shown, words } from '../../format/text';
import { CostOf } from '../../parts/CostOf';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { StandingState } from '../../parts/states';
import { Ago } from '../../parts/Time';

/** Standing are volumes at providers that follow each restpoint of their machine, so that a launch has little left to write. */
export function Standing() {
  const [trail, setTrail] = useState<Trail>([]);
  const query = api.useQuery('get', '/api/v1/machines', { params: { query: { warm: true, limit: 50, cursor: trail.at(-1) } } }, { placeholderData: keepPreviousData });
  return (
    <Loaded query={query}>
      {(page) => page.total === 0 ? (
        <Nothing title="No volumes stand by">A machine’s launch template can ask for standing volumes: launches of it then begin at once, and they cost all the time.</Nothing>
      ) : (
        <>
          <Content component="p">They have no deadline: they stand, and cost, until the machine’s launch template asks for them no more.</Content>
          <Table aria-label="Standing volumes" variant="compact">
            <Thead><Tr><Th>Machine</Th><Th>State</Th><Th>Hold</Th><Th>Stand since</Th><Th>At</Th><Th>Cost so far</Th></Tr></Thead>
            <Tbody>
              {page.items.map((m) => m.warm && (
                <Tr key={m.id}>
                  <Td dataLabel="Machine"><Link to="/machines/$machine/launch-template" params={{ machine: m.id }}><Name text={m.name} most={40} /></Link></Td>
                  <Td dataLabel="State" modifier="breakWord">
                    <StandingState state={m.warm.state} /> {m.warm.problem && shown(m.warm.problem, 300)}
                    {m.warm.launch && <> <Link to="/launches/$launch" params={{ launch: m.warm.launch }}>by this launch</Link></>}
                    {m.warm.progress && m.warm.progress.total > 0 && (
                      <Progress size="sm" aria-label={`${words(m.warm.state)} of ${m.name.slice(0, 60)}`} value={percent(m.warm.progress.done, m.warm.progress.total)} />
                    )}
                  </Td>
                  <Td dataLabel="Hold">
                    {m.warm.restpoint ? <Link to="/restpoints/$restpoint" params={{ restpoint: m.warm.restpoint }}>the restpoint of <Ago at={m.warm.instant} none="unknown age" /></Link> : 'nothing whole yet'}
                  </Td>
                  <Td dataLabel="Stand since"><Ago at={m.warm.since} none="unknown" /></Td>
                  <Td dataLabel="At">{shown(m.warm.provider, 40)}<div className="om-quiet">{count(m.warm.volumes, 'volume')}, {bytes(m.warm.size)}</div></Td>
                  <Td dataLabel="Cost so far" className="om-number"><CostOf size={m.warm.size} cpus={0} since={m.warm.since} /></Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
          <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'machine' : 'machines'} go={setTrail} />
        </>
      )}
    </Loaded>
  );
}
