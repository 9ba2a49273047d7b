import { useMemo } from 'react';
import { Content } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api } from '../../api/client';
import type { MachineInfo, SessionInfo } from '../../api/generated/schema';
import { bytes } from '../../format/amount';
import { duration, isSet } from '../../format/time';
import { shown } from '../../format/text';
import { Chart } from '../../parts/Chart';
import { Loaded } from '../../parts/Loaded';
import { Nothing } from '../../parts/Nothing';
import { OperationState } from '../../parts/states';
import { Time } from '../../parts/Time';

const shownSessions = 100;
const listed = 15;

/** Replication is what each cycle of late sent and how long it took. */
export function Replication({ m }: { m: MachineInfo }) {
  const query = api.useQuery('get', '/api/v1/machines/{machine}/sessions', { params: { path: { machine: m.id }, query: { limit: shownSessions } } });
  return (
    <Loaded query={query}>
      {(page) => page.items.length === 0 ? (
        <Nothing title="No cycle ran yet">Each cycle makes a restpoint. The first begins when the agent has connected.</Nothing>
      ) : (
        <>
          <Graphs sessions={page.items} />
          <Content component="h3">Last cycles</Content>
          <Table aria-label="Cycles" variant="compact">
            <Thead><Tr><Th>Began</Th><Th>State</Th><Th>Took</Th><Th>Read</Th><Th>Unchanged or known</Th><Th>Sent</Th></Tr></Thead>
            <Tbody>{page.items.slice(0, listed).map((s) => <Row key={s.id} s={s} />)}</Tbody>
          </Table>
        </>
      )}
    </Loaded>
  );
}

const took = (s: SessionInfo) => (isSet(s.ended) ? (Date.parse(s.ended) - Date.parse(s.opened)) / 1000 : undefined);

function Row({ s }: { s: SessionInfo }) {
  const t = took(s);
  return (
    <Tr>
      <Td dataLabel="Began"><Time at={s.opened} /></Td>
      <Td dataLabel="State" modifier="breakWord">
        <OperationState state={s.state} /> {s.failure && shown(s.failure.message, 200)}
      </Td>
      <Td dataLabel="Took" className="om-number">{t === undefined ? '–' : duration(t)}</Td>
      <Td dataLabel="Read" className="om-number">{bytes(s.progress.done)}</Td>
      <Td dataLabel="Unchanged or known" className="om-number">{bytes(s.progress.same + s.progress.known)}</Td>
      <Td dataLabel="Sent" className="om-number">{bytes(s.progress.stored)}</Td>
    </Tr>
  );
}

function Graphs({ sessions }: { sessions: SessionInfo[] }) {
  const drawn = useMemo(() => {
    const ended = sessions.filter((s) => s.state === 'done').reverse();
    return {
      times: ended.map((s) => Date.parse(s.ended ?? s.opened) / 1000),
      sent: ended.map((s) => s.progress.stored),
      took: ended.map((s) => took(s) ?? null),
    };
  }, [sessions]);
  if (drawn.times.length < 2) return null;
  const most = Math.max(...drawn.sent);
  const longest = Math.max(...drawn.took.map((t) => t ?? 0));
  return (
    <>
      <Chart label="Sent" times={drawn.times} values={drawn.sent} write={bytes}
        text={`Sent by each of the last ${drawn.sent.length} cycles: at most ${bytes(most)}, last ${bytes(drawn.sent.at(-1))}.`} />
      <Chart label="Took" times={drawn.times} values={drawn.took} write={duration}
        text={`Time that each took: at most ${duration(longest)}, last ${duration(drawn.took.at(-1) ?? 0)}.`} />
    </>
  );
}
