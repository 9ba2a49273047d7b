import { Card, CardBody, CardTitle } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import { words } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { LaunchState } from '../../parts/states';
import { Ago } from '../../parts/Time';

/** RunningCopies are launches that are not over. */
export function RunningCopies() {
  const query = api.useQuery('get', '/api/v1/launches', { params: { query: { active: true, limit: 8 } } });
  return (
    <Card isFullHeight>
      <CardTitle component="h2"><Link to="/launches">Copies that run</Link></CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(page) => page.total === 0 ? <>None. Nothing runs up costs at a provider.</> : (
            <ul>
              {page.items.map((l) => (
                <li key={l.id}>
                  <Link to="/launches/$launch" params={{ launch: l.id }}>{words(l.kind)} of <Name text={l.machine_name} most={32} /></Link> <LaunchState state={l.state} />{' '}
                  <span className="om-quiet">since <Ago at={l.created} /></span>
                </li>
              ))}
            </ul>
          )}
        </Loaded>
      </CardBody>
    </Card>
  );
}
