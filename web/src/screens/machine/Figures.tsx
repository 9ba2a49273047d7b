import type { ReactNode } from 'react';
import { DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm, Progress } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import type { MachineInfo } from '../../api/generated/schema';
import { bytes, percent, rate } from '../../format/amount';
import { seconds, span } from '../../format/time';
import { shown, words } from '../../format/text';
import { Name } from '../../parts/Name';
import { Consistency } from '../../parts/states';
import { Ago } from '../../parts/Time';

/** Figures say how far restpoints are behind the disks, and what is being done about it. */
export function Figures({ m }: { m: MachineInfo }) {
  const p = m.progress;
  return (
    <>
      {m.session && p && p.total > 0 && (
        <Progress className="om-gap" value={percent(p.done, p.total)}
          title={`${words(p.phase ?? 'copying')}: ${bytes(p.done)} of ${bytes(p.total)} read, ${bytes(p.stored)} sent${p.message ? `. ${shown(p.message, 200)}` : ''}`} />
      )}
      <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col', xl: '3Col' }} className="om-gap">
        <Figure term="Would be lost now (RPO)">{m.rpo.instant ? span(m.rpo.now) : 'everything: there is no restpoint'}</Figure>
        <Figure term="Goal">{seconds(m.rpo.target) > 0 ? span(m.rpo.target) : 'none: restpoints are made when asked for'}</Figure>
        <Figure term="Lag">{seconds(m.rpo.lag) > 0 ? span(m.rpo.lag) : 'on time'}</Figure>
        <Figure term="Not in a restpoint yet">{bytes(m.rpo.backlog)}</Figure>
        <Figure term="Changes of late">{rate(m.rpo.change_rate)}</Figure>
        <Figure term="Sent of late">{rate(m.rpo.throughput)}</Figure>
        <Figure term="Done">{m.rpo.eta ? <Ago at={m.rpo.eta} /> : 'no cycle runs, or it is not known'}</Figure>
        <Figure term="Last restpoint"><Ago at={m.last_time} none="none yet" /> {m.last_consistency && <Consistency state={m.last_consistency} />}</Figure>
        <Figure term="Last test">
          {m.last_test ? <><Link to="/launches/$launch" params={{ launch: m.last_test.launch }}>{m.last_test.passed ? 'Passed' : 'Failed'}</Link> <Ago at={m.last_test.time} /></> : 'none yet'}
        </Figure>
        <Figure term="Agent heard of"><Ago at={m.last_seen} /></Figure>
        <Figure term="System"><Name text={m.os ?? 'unknown'} most={80} /></Figure>
        <Figure term="Agent">{shown(m.agent_version, 60)}</Figure>
        <Figure term="Group and tags"><Name text={[m.group, ...(m.tags ?? [])].filter(Boolean).join(', ') || 'none'} most={120} /></Figure>
      </DescriptionList>
    </>
  );
}

export function Figure({ term, children }: { term: string; children: ReactNode }) {
  return (
    <DescriptionListGroup>
      <DescriptionListTerm>{term}</DescriptionListTerm>
      <DescriptionListDescription>{children}</DescriptionListDescription>
    </DescriptionListGroup>
  );
}
