import { Fragment, useState } from 'react';
import { Button, Checkbox, Flex, FlexItem, Label } from '@patternfly/react-core';
import { Link, useNavigate } from '@tanstack/react-router';
import type { MachineInfo, RestpointInfo } from '../../api/generated/schema';
import { usePreferences } from '../../app/preferences';
import { useRole } from '../../app/role';
import { bytes } from '../../format/amount';
import { clock } from '../../format/time';
import { Consistency } from '../../parts/states';
import { Ago, Time } from '../../parts/Time';
import { Rollback, TestLaunch } from '../machine/NextStepButton';

interface Props {
  m: MachineInfo;
  restpoints: RestpointInfo[];
  chosen: string[];
  choose: (chosen: string[]) => void;
}

/** Timeline lists restpoints by day, newest first. */
export function Timeline({ m, restpoints, chosen, choose }: Props) {
  const { utc } = usePreferences();
  const day = (r: RestpointInfo) => clock(new Date(r.created), utc ? 'UTC' : undefined).slice(0, 10);
  const toggle = (id: string, on: boolean) => choose(on ? [...chosen, id].slice(-2) : chosen.filter((c) => c !== id));
  return (
    <ol className="om-timeline" aria-label="Restpoints, newest first">
      {restpoints.map((r, i) => (
        <Fragment key={r.id}>
          {(i === 0 || day(r) !== day(restpoints[i - 1]!)) && <li className="om-day">{day(r)}</li>}
          <Point m={m} r={r} chosen={chosen.includes(r.id)} choose={(on) => toggle(r.id, on)} />
        </Fragment>
      ))}
    </ol>
  );
}

function Point({ m, r, chosen, choose }: { m: MachineInfo; r: RestpointInfo; chosen: boolean; choose: (on: boolean) => void }) {
  const role = useRole();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<'test' | 'rollback'>();
  const started = (launch: string) => void navigate({ to: '/launches/$launch', params: { launch } });
  const damaged = r.state === 'damaged';
  return (
    <li>
      <Flex alignItems={{ default: 'alignItemsCenter' }} spaceItems={{ default: 'spaceItemsSm' }}>
        <FlexItem><Checkbox id={`choose-${r.id}`} aria-label={`Compare restpoint ${r.sequence}`} isChecked={chosen} onChange={(_, on) => choose(on)} /></FlexItem>
        <FlexItem>
          <Link to="/restpoints/$restpoint" params={{ restpoint: r.id }}><Time at={r.created} /></Link>{' '}
          <span className="om-quiet">#{r.sequence}, <Ago at={r.created} /></span>
        </FlexItem>
        <FlexItem><Consistency state={r.consistency} /></FlexItem>
        <FlexItem>{r.parent ? `${bytes(r.stats.sent)} changed, ${bytes(r.stats.stored)} sent` : `first copy, ${bytes(r.stats.stored)} sent`}</FlexItem>
        {r.verified && <FlexItem><Label status="success" isCompact>Verified</Label></FlexItem>}
        {r.pinned && <FlexItem><Label color="blue" isCompact>Pinned</Label></FlexItem>}
        {damaged && <FlexItem><Label status="danger" isCompact>Damaged</Label></FlexItem>}
        {role.may('operator') && !damaged && (
          <FlexItem>
            <Button variant="link" isInline size="sm" onClick={() => setAsking('test')} aria-label={`Launch a test from restpoint ${r.sequence}`}>Launch a test</Button>{' · '}
            <Button variant="link" isInline size="sm" onClick={() => setAsking('rollback')} aria-label={`Roll back to restpoint ${r.sequence}`}>Roll back</Button>
          </FlexItem>
        )}
      </Flex>
      {asking === 'test' && <TestLaunch m={m} restpoint={r.id} close={() => setAsking(undefined)} started={started} />}
      {asking === 'rollback' && <Rollback m={m} restpoint={r.id} close={() => setAsking(undefined)} started={started} />}
    </li>
  );
}
