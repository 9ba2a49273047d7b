import { useState } from 'react';
import { Tab, Tabs, TabTitleText } from '@patternfly/react-core';
import { useWho } from '../api/session';
import { useRole } from '../app/role';
import { Nothing } from '../parts/Nothing';
import { Screen } from '../parts/Screen';
import { Audit } from './access/Audit';
import { Enrolments } from './access/Enrolments';
import { Tokens } from './access/Tokens';
import { Users } from './access/Users';
import { Webhooks } from './access/Webhooks';

/** Access is who and what may reach this master. */
export function Access() {
  const role = useRole();
  const who = useWho();
  const [tab, setTab] = useState<string | number>('tokens');
  return (
    <Screen title="Access">
      {role.may('admin') ? (
        <Tabs activeKey={tab} onSelect={(_, key) => setTab(key)} aria-label="Access" mountOnEnter unmountOnExit>
          <Tab eventKey="tokens" title={<TabTitleText>API tokens</TabTitleText>}><Tokens /></Tab>
          {who.master && <Tab eventKey="users" title={<TabTitleText>Users</TabTitleText>}><Users /></Tab>}
          <Tab eventKey="audit" title={<TabTitleText>Audit</TabTitleText>}><Audit master={who.master} /></Tab>
          <Tab eventKey="webhooks" title={<TabTitleText>Webhooks</TabTitleText>}><Webhooks /></Tab>
          <Tab eventKey="enrolments" title={<TabTitleText>Enrolment tokens</TabTitleText>}><Enrolments /></Tab>
        </Tabs>
      ) : <Nothing title="Only admins see who has access">Ask one for a token.</Nothing>}
    </Screen>
  );
}
