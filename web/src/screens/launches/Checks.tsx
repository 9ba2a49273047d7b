import { Content, Label } from '@patternfly/react-core';
import type { LaunchInfo, LaunchOutcome } from '../../api/generated/schema';
import { shown, words } from '../../format/text';
import { seconds, span } from '../../format/time';

/** Checks are what had to be so before the copy counted as running. */
export function Checks({ l }: { l: LaunchInfo }) {
  const checks = l.checks ?? [];
  if (checks.length === 0) return null;
  return (
    <>
      <Content component="h2">Checks</Content>
      <ul>
        {checks.map((c, i) => (
          <li key={i}>
            <Label isCompact status={c.passed ? 'success' : l.state === 'failed' ? 'danger' : 'info'}>{c.passed ? 'Passed' : l.state === 'failed' ? 'Failed' : 'Waiting'}</Label>{' '}
            {describe(c)} {seconds(c.after) > 0 && `after ${span(c.after)}`} {c.message && shown(c.message, 300)}
          </li>
        ))}
      </ul>
    </>
  );
}

function describe(c: LaunchOutcome): string {
  const detail = [c.port ? `port ${c.port}` : '', c.path ?? '', c.status ? `status ${c.status}` : '', c.text ? `“${shown(c.text, 60)}”` : ''].filter(Boolean).join(', ');
  return detail ? `${words(c.kind)} (${detail})` : words(c.kind);
}
