import { Content, Stack, StackItem } from '@patternfly/react-core';
import { useRole } from '../app/role';
import { Screen } from '../parts/Screen';
import { Jobs } from './nodes/Jobs';
import { NodeList } from './nodes/NodeList';
import { Staging } from './nodes/Staging';

/** Nodes are the hydrators, and staging is the bucket that they read. */
export function Nodes() {
  const role = useRole();
  return (
    <Screen title="Nodes and staging">
      <Stack hasGutter>
        <StackItem><Content component="h2">Nodes</Content><NodeList /></StackItem>
        <StackItem><Content component="h2">Staging</Content><Staging admin={role.may('admin')} /></StackItem>
        <StackItem><Content component="h2">Jobs</Content><Jobs /></StackItem>
      </Stack>
    </Screen>
  );
}
