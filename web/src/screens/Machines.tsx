import { useState } from 'react';
import { Button } from '@patternfly/react-core';
import ServerIcon from '@patternfly/react-icons/dist/esm/icons/server-icon';
import { Link, useNavigate } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api } from '../api/client';
import { narrowed, type MachineSearch } from '../app/machinesearch';
import { machinesRoute } from '../app/router';
import { useRole } from '../app/role';
import { Loaded } from '../parts/Loaded';
import { Nothing } from '../parts/Nothing';
import { Pager, type Trail } from '../parts/Pager';
import { Screen } from '../parts/Screen';
import { Bulk } from './machines/Bulk';
import { Filters } from './machines/Filters';
import { MachineTable } from './machines/MachineTable';

const pageSize = 100;

/** Machines is the table of all machines. What it is narrowed to stands in the address; the master does the searching, sorting and paging. */
export function Machines() {
  const search = machinesRoute.useSearch();
  const navigate = useNavigate();
  const role = useRole();
  const [trail, setTrail] = useState<Trail>([]);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const query = api.useQuery(
    'get',
    '/api/v1/machines',
    { params: { query: { ...search, limit: pageSize, cursor: trail.at(-1) } } },
    { placeholderData: keepPreviousData },
  );
  const narrow = (to: MachineSearch) => {
    setTrail([]);
    setChosen(new Set());
    void navigate({ to: '/machines', search: to, replace: true });
  };
  const add = role.may('admin') && <Button component={(props) => <Link {...props} to="/add-machine" />}>Add a machine</Button>;
  return (
    <Screen title="Machines" actions={add}>
      <Filters search={search} change={narrow} />
      <Loaded query={query}>
        {(page) => (
          <>
            {page.total === 0 && !narrowed(search) ? (
              <Nothing title="No machines yet" icon={ServerIcon} action={add}>
                Add the first: one command on the server, and its disks are being copied.
              </Nothing>
            ) : page.total === 0 ? (
              <Nothing title="No machine is like that" action={<Button variant="link" onClick={() => narrow({})}>Show all machines</Button>}>
                Machines were left out by what you search for.
              </Nothing>
            ) : (
              <>
                {role.may('operator') && <Bulk machines={page.items.filter((m) => chosen.has(m.id))} clear={() => setChosen(new Set())} />}
                <MachineTable machines={page.items} search={search} sort={(sort) => narrow({ ...search, sort })}
                  chosen={role.may('operator') ? chosen : undefined} choose={setChosen} />
              </>
            )}
            <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'machine' : 'machines'} go={setTrail} />
          </>
        )}
      </Loaded>
    </Screen>
  );
}
