import { Alert, Content, DescriptionList, Grid, GridItem, Stack, StackItem } from '@patternfly/react-core';
import { Link, useParams } from '@tanstack/react-router';
import { api } from '../api/client';
import type { LaunchInfo } from '../api/generated/schema';
import { isMoving, sizeOf } from '../app/launches';
import { consoleLines, shown, words } from '../format/text';
import { seconds, span } from '../format/time';
import { CostOf } from '../parts/CostOf';
import { Loaded } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { Screen } from '../parts/Screen';
import { LaunchState } from '../parts/states';
import { Ago, Time } from '../parts/Time';
import { Figure } from './machine/Figures';
import { Checks } from './launches/Checks';
import { Console } from './launches/Console';
import { End } from './launches/End';
import { Screenshot } from './launches/Screenshot';
import { Steps } from './launches/Steps';

/** Launch is one test or cutover, as it goes. */
export function Launch() {
  const { launch } = useParams({ strict: false }) as { launch: string };
  const query = api.useQuery('get', '/api/v1/launches/{launch}', { params: { path: { launch } } });
  const l = query.data;
  const what = l ? `${words(l.kind)} of ${shown(l.machine_name, 60)}` : 'Launch';
  return (
    <Screen title={what} heading={l && <>{words(l.kind)} of <Name text={l.machine_name} /></>} trail={[{ to: '/launches', label: 'Launches' }]} actions={l && <End l={l} />}>
      <Loaded query={query}>{(data) => <Shown l={data} />}</Loaded>
    </Screen>
  );
}

function Shown({ l }: { l: LaunchInfo }) {
  return (
    <Stack hasGutter>
      {l.failure && (
        <StackItem>
          <Alert isInline variant="danger" title={`It failed while ${l.failure.step}`}>
            <p>{shown(l.failure.reason, 1000)}</p>
            {l.failure.cause && <p>Likely cause: {shown(l.failure.cause, 400)}</p>}
            {l.next_step !== 'none' && <p>Next: {shown(l.next_step, 400)}</p>}
            {l.failure.console && <pre className="om-log" tabIndex={0}>{consoleLines(l.failure.console, 40).join('\n')}</pre>}
          </Alert>
        </StackItem>
      )}
      <StackItem>
        <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col', xl: '3Col' }}>
          <Figure term="State"><LaunchState state={l.state} /></Figure>
          <Figure term="Machine"><Link to="/machines/$machine" params={{ machine: l.machine }}><Name text={l.machine_name} /></Link></Figure>
          <Figure term="Restpoint">{l.restpoint ? <Link to="/restpoints/$restpoint" params={{ restpoint: l.restpoint }}>Show it</Link> : 'made for this launch'}</Figure>
          <Figure term="Began"><Time at={l.created} /></Figure>
          <Figure term="Forecast against actual">
            {seconds(l.forecast) > 0 ? span(l.forecast) : 'unknown: it is the first of this kind'} / {seconds(l.took) > 0 ? span(l.took) : 'not up yet'}
          </Figure>
          <Figure term="Reverted by itself"><Ago at={l.deadline} none="no" /></Figure>
          <Figure term="At">{shown(l.provider, 60)} {sizeOf(l)}</Figure>
          {l.size > 0 && <Figure term="Cost so far"><CostOf size={l.size} cpus={l.template.cpus ?? 0} since={l.created} ended={l.ended} /></Figure>}
          <Figure term="Instance">{l.instance ? <code>{shown(l.instance, 80)}</code> : 'none'}</Figure>
          {l.source && <Figure term="Source">{words(l.source)}</Figure>}
          {(l.endpoints ?? []).length > 0 && (
            <Figure term="Reached at">{(l.endpoints ?? []).map((e) => <div key={e.port}>port {e.port}: <code>{shown(e.address, 80)}</code></div>)}</Figure>
          )}
        </DescriptionList>
      </StackItem>
      <StackItem>
        <Grid hasGutter>
          <GridItem lg={5}><Steps l={l} /></GridItem>
          <GridItem lg={7}>
            <Content component="h2">Log</Content>
            {l.log.length === 0 ? <Content component="p">Nothing was written yet.</Content> : (
              <div className="om-log" role="log" aria-label="Log of the launch" tabIndex={0}>
                {l.log.map((line, i) => <div key={i}><Time at={line.time} /> {shown(line.message, 1000)}</div>)}
              </div>
            )}
            <Checks l={l} />
            {l.instance && <Console launch={l.id} live={isMoving(l.state) || l.state === 'running'} />}
            {l.screenshot && <Screenshot launch={l.id} />}
          </GridItem>
        </Grid>
      </StackItem>
    </Stack>
  );
}
