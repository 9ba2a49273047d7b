import { useState } from 'react';
import { Button, Content } from '@patternfly/react-core';
import { api, client, queries } from '../api/client';
import { count } from '../format/amount';
import { shown, words } from '../format/text';
import { Confirm } from '../parts/Confirm';
import { Loaded } from '../parts/Loaded';
import { done } from '../parts/toasts';
import { Ago } from '../parts/Time';

/** Orphans are things at a provider that belong to no launch that lives: they cost and serve nobody. */
export function Orphans({ provider }: { provider: string }) {
  const [look, setLook] = useState(false);
  return (
    <div className="om-gap">
      {look ? <Found provider={provider} /> : <Button variant="secondary" onClick={() => setLook(true)}>Look for leftovers</Button>}
    </div>
  );
}

function Found({ provider }: { provider: string }) {
  const [asking, setAsking] = useState(false);
  const params = { path: { provider } };
  const query = api.useQuery('get', '/api/v1/providers/{provider}/orphans', { params });
  return (
    <Loaded query={query}>
      {(list) => list.length === 0 ? <Content component="p">Nothing is left over: all that is there belongs to a launch that lives.</Content> : (
        <>
          <Content component="p">{count(list.length, 'thing')} of launches that are over:</Content>
          <ul>{list.map((o) => <li key={o.kind + o.id}>{words(o.kind)} <code>{shown(o.name || o.id, 80)}</code>, made <Ago at={o.created} /></li>)}</ul>
          <Button variant="danger" onClick={() => setAsking(true)}>Remove them…</Button>
          {asking && (
            <Confirm title="Remove leftovers?" label="Remove them" danger name={provider} close={() => setAsking(false)} act={async () => {
              await client.DELETE('/api/v1/providers/{provider}/orphans', { params });
              done('Leftovers were removed');
              void queries.invalidateQueries();
            }}>
              <Content component="p"><strong>What is lost:</strong> the {count(list.length, 'thing')} listed, with what is on them. Launches that live are not touched.</Content>
            </Confirm>
          )}
        </>
      )}
    </Loaded>
  );
}
