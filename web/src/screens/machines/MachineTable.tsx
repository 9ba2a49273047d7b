import { memo, useCallback, type Dispatch, type SetStateAction } from 'react';
import { Progress, ProgressSize } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr, type ThProps } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import type { MachineInfo } from '../../api/generated/schema';
import { nextStep } from '../../app/nextstep';
import type { MachineSearch, Sort, SortField } from '../../app/machinesearch';
import { bytes, percent } from '../../format/amount';
import { seconds, span } from '../../format/time';
import { Name } from '../../parts/Name';
import { Consistency, LifeState, ReplicationState } from '../../parts/states';
import { Ago } from '../../parts/Time';

interface Props {
  machines: MachineInfo[];
  search: MachineSearch;
  sort: (sort: Sort) => void;
  /** Ids of the machines that are chosen; undefined: none can be. */
  chosen: Set<string> | undefined;
  choose: Dispatch<SetStateAction<Set<string>>>;
}

const columns: { label: string; sort?: SortField }[] = [
  { label: 'Name', sort: 'name' },
  { label: 'Replication', sort: 'replication' },
  { label: 'Life', sort: 'life' },
  { label: 'Next step' },
  { label: 'RPO / goal', sort: 'rpo' },
  { label: 'Lag', sort: 'lag' },
  { label: 'Backlog', sort: 'backlog' },
  { label: 'Last restpoint' },
  { label: 'Last test' },
];

/** MachineTable is one page of machines. */
export function MachineTable({ machines, search, sort, chosen, choose }: Props) {
  const by = search.sort ?? 'name';
  const down = by.startsWith('-');
  const active = columns.findIndex((c) => c.sort === by.replace('-', ''));
  const sorted = (field: SortField | undefined, columnIndex: number): ThProps['sort'] =>
    field && {
      columnIndex,
      sortBy: { index: active, direction: down ? 'desc' : 'asc' },
      onSort: (_e, _i, direction) => sort(direction === 'desc' ? `-${field}` : field),
    };
  const all = chosen !== undefined && machines.every((m) => chosen.has(m.id));
  const toggle = useCallback((ids: string[], on: boolean) => choose((was) => {
    const next = new Set(was);
    for (const id of ids) {
      if (on) next.add(id);
      else next.delete(id);
    }
    return next;
  }), [choose]);
  return (
    <Table aria-label="Machines" variant="compact" gridBreakPoint="grid-lg">
      <Thead>
        <Tr>
          {chosen && <Th aria-label="Choose all on this page" select={{ isSelected: all, onSelect: (_e, on) => toggle(machines.map((m) => m.id), on) }} />}
          {columns.map((c, i) => (
            <Th key={c.label} modifier="wrap" sort={sorted(c.sort, i)}>{c.label}</Th>
          ))}
        </Tr>
      </Thead>
      <Tbody>
        {machines.map((m, i) => (
          <Row key={m.id} m={m} index={i} chosen={chosen?.has(m.id)} toggle={toggle} />
        ))}
      </Tbody>
    </Table>
  );
}

interface RowProps {
  m: MachineInfo;
  index: number;
  chosen: boolean | undefined;
  toggle: (ids: string[], on: boolean) => void;
}

/** Row is drawn again only when its machine or its mark has changed: a list is read again with each event. */
const Row = memo(function Row({ m, index, chosen, toggle }: RowProps) {
  const next = nextStep(m);
  const late = seconds(m.rpo.lag) > 0;
  return (
    <Tr>
      {chosen !== undefined && <Td select={{ rowIndex: index, isSelected: chosen, onSelect: (_e, on) => toggle([m.id], on) }} />}
      <Td dataLabel="Name">
        <Link to="/machines/$machine" params={{ machine: m.id }}><Name text={m.name} most={48} /></Link>
        <div className="om-quiet"><Name text={m.os ?? 'system unknown'} most={40} /></div>
      </Td>
      <Td dataLabel="Replication">
        <ReplicationState state={m.replication} />
        <Copying m={m} />
      </Td>
      <Td dataLabel="Life"><LifeState state={m.life} /></Td>
      <Td dataLabel="Next step" modifier="breakWord">{next.action === 'none' ? '–' : next.label}</Td>
      <Td dataLabel="RPO / goal" className="om-number">{m.rpo.instant ? span(m.rpo.now) : '–'} / {seconds(m.rpo.target) > 0 ? span(m.rpo.target) : 'none'}</Td>
      <Td dataLabel="Lag" className="om-number">{late ? span(m.rpo.lag) : 'on time'}</Td>
      <Td dataLabel="Backlog" className="om-number">{bytes(m.rpo.backlog)}</Td>
      <Td dataLabel="Last restpoint"><Ago at={m.last_time} none="none yet" />{m.last_consistency && <div><Consistency state={m.last_consistency} /></div>}</Td>
      <Td dataLabel="Last test"><LastTest m={m} /></Td>
    </Tr>
  );
});

function LastTest({ m }: { m: MachineInfo }) {
  const t = m.last_test;
  if (!t) return <>none yet</>;
  return (
    <>
      <Link to="/launches/$launch" params={{ launch: t.launch }}>{t.passed ? 'Passed' : 'Failed'}</Link>
      <div className="om-quiet"><Ago at={t.time} /></div>
    </>
  );
}

/** Copying is how far the cycle that runs is. Short ones would only flicker. */
function Copying({ m }: { m: MachineInfo }) {
  const p = m.progress;
  const whole = m.replication === 'initial-sync' || m.replication === 'rescanning' || m.replication === 'lagging';
  if (!m.session || !p || !whole || p.total === 0) return null;
  return (
    <div className="om-progress">
      <Progress aria-label={`Copied of ${m.name.slice(0, 60)}`} size={ProgressSize.sm} value={percent(p.done, p.total)} />
      {m.rpo.eta && <div className="om-quiet">done <Ago at={m.rpo.eta} /></div>}
    </div>
  );
}
