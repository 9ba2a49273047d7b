import { Button, Content, Grid, GridItem } from '@patternfly/react-core';
import ServerIcon from '@patternfly/react-icons/dist/esm/icons/server-icon';
import { Link } from '@tanstack/react-router';
import { api } from '../api/client';
import { useRole } from '../app/role';
import { Loaded } from '../parts/Loaded';
import { Nothing } from '../parts/Nothing';
import { Screen } from '../parts/Screen';
import { Attention } from './overview/Attention';
import { Counts } from './overview/Counts';
import { RunningCopies } from './overview/RunningCopies';
import { StagingCard } from './overview/StagingCard';
import { Throughput } from './overview/Throughput';
import { WorstRPOs } from './overview/WorstRPOs';

/** Overview says in five seconds what is fine, what is not, and what to do next. */
export function Overview() {
  const role = useRole();
  const query = api.useQuery('get', '/api/v1/summary');
  return (
    <Screen title="Overview">
      <Loaded query={query}>
        {(summary) => summary.machines === 0 ? (
          <Nothing title="Bring the first server here" icon={ServerIcon}
            action={role.may('admin') && <Button component={(props) => <Link {...props} to="/add-machine" />}>Add a machine</Button>}>
            <Content component="ol">
              <li>Add a machine: one command on the server.</li>
              <li>Its disks are copied while it serves. Watch it here.</li>
              <li>Launch a test, look at the copy, and cut over when you like it.</li>
            </Content>
          </Nothing>
        ) : (
          <Grid hasGutter>
            <GridItem span={12}><Counts summary={summary} /></GridItem>
            <GridItem lg={7}><Attention /></GridItem>
            <GridItem lg={5}><WorstRPOs /></GridItem>
            <GridItem md={6} lg={4}><Throughput summary={summary} /></GridItem>
            <GridItem md={6} lg={4}><StagingCard /></GridItem>
            <GridItem lg={4}><RunningCopies /></GridItem>
          </Grid>
        )}
      </Loaded>
    </Screen>
  );
}
