import { Card, CardBody, CardTitle, Content, Flex, FlexItem, ProgressStep, ProgressStepper } from '@patternfly/react-core';
import type { MachineInfo } from '../../api/generated/schema';
import { nextStep, stageOf, stages } from '../../app/nextstep';
import { shown, words } from '../../format/text';
import { LifeState, ReplicationState } from '../../parts/states';
import { NextStepButton } from './NextStepButton';

/** Life shows where a machine is on its way, and the one thing to do next. */
export function Life({ m }: { m: MachineInfo }) {
  const next = nextStep(m);
  const here = stageOf(m.life);
  return (
    <Card>
      <CardTitle component="h2">
        <Flex spaceItems={{ default: 'spaceItemsSm' }}>
          <FlexItem>{next.action === 'none' ? next.label : `Next: ${next.label.charAt(0).toLowerCase()}${next.label.slice(1)}`}</FlexItem>
          <FlexItem><ReplicationState state={m.replication} /></FlexItem>
          <FlexItem><LifeState state={m.life} /></FlexItem>
        </Flex>
      </CardTitle>
      <CardBody>
        <Content component="p">{shown(next.why, 400)}</Content>
        {next.action === 'look' && m.next_step !== 'none' && <Content component="p">What to do: {shown(m.next_step, 400)}</Content>}
        <NextStepButton m={m} next={next} />
        <ProgressStepper aria-label="The life of this machine" className="om-gap">
          {stages.map((s, i) => {
            const past = i < here || m.life === 'finalized';
            const current = i === here && m.life !== 'finalized';
            return (
              <ProgressStep key={s} id={`stage-${s}`} titleId={`stage-${s}-title`} isCurrent={current} variant={past ? 'success' : current ? 'info' : 'pending'}
                aria-label={`${words(s)}: ${past ? 'done' : current ? 'here it is' : 'to come'}`}>
                {words(s)}
              </ProgressStep>
            );
          })}
        </ProgressStepper>
      </CardBody>
    </Card>
  );
}
