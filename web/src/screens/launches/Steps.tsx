import { Content, Progress, ProgressStep, ProgressStepper } from '@patternfly/react-core';
import type { LaunchInfo } from '../../api/generated/schema';
import { stepsOf, type StepView } from '../../app/launches';
import { bytes, percent } from '../../format/amount';
import { shown, words } from '../../format/text';
import { duration } from '../../format/time';
import { useNow } from '../../parts/Time';

const variant = { done: 'success', now: 'info', failed: 'danger', 'to-come': 'pending' } as const;
const said = { done: 'done', now: 'under way', failed: 'failed', 'to-come': 'to come' };

/** Steps are what a launch went through, with their times, and what is to come. */
export function Steps({ l }: { l: LaunchInfo }) {
  const steps = stepsOf(l, useNow());
  return (
    <>
      <Content component="h2">Steps</Content>
      <ProgressStepper isVertical aria-label="Steps of the launch">
        {steps.map((s, i) => (
          <ProgressStep key={`${s.name}-${i}`} id={`step-${i}`} titleId={`step-${i}-title`} variant={variant[s.state]} isCurrent={s.state === 'now'}
            description={<About s={s} />} aria-label={`${words(s.name)}: ${said[s.state]}`}>
            {words(s.name)}
          </ProgressStep>
        ))}
      </ProgressStepper>
    </>
  );
}

function About({ s }: { s: StepView }) {
  const p = s.step?.progress;
  return (
    <>
      {s.took !== undefined && <span>{duration(s.took)}</span>} {s.step?.message && shown(s.step.message, 300)}
      {s.state === 'now' && p && p.total > 0 && (
        <Progress size="sm" aria-label={`${words(s.name)}: ${bytes(p.done)} of ${bytes(p.total)}`} value={percent(p.done, p.total)} />
      )}
    </>
  );
}
