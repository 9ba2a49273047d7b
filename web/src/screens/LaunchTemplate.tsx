import { useParams } from '@tanstack/react-router';
import { useQuery } from '@tanstack/react-query';
import { api, client } from '../api/client';
import { shown } from '../format/text';
import { Loaded } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { Screen } from '../parts/Screen';
import { Editor } from './template/Editor';

/** LaunchTemplateScreen edits what launches of a machine are like. */
export function LaunchTemplateScreen() {
  const { machine } = useParams({ strict: false }) as { machine: string };
  const of = api.useQuery('get', '/api/v1/machines/{machine}', { params: { path: { machine } } });
  const providers = api.useQuery('get', '/api/v1/providers', { params: { query: { limit: 500 } } }, { staleTime: 60_000 });
  // With its ETag: a change is refused if somebody else changed it since.
  const template = useQuery({
    queryKey: ['template', machine],
    queryFn: async () => {
      const { data, response } = await client.GET('/api/v1/machines/{machine}/launch-template', { params: { path: { machine } } });
      return { template: data!, etag: response.headers.get('ETag') ?? '' };
    },
    refetchInterval: false,
    refetchOnWindowFocus: false,
  });
  const name = of.data?.name ?? 'machine';
  return (
    <Screen title={`Launch template of ${shown(name, 60)}`} heading={<>Launch template of <Name text={name} /></>}
      trail={[{ to: '/machines', label: 'Machines' }, { to: `/machines/${machine}`, label: <Name text={name} /> }]}
      text="What is left empty is chosen by what the source is and by the provider.">
      <Loaded query={template}>
        {(t) => (
          <Loaded query={providers}>
            {(p) => <Editor key={t.etag} machine={machine} was={t.template} etag={t.etag} providers={p.items} again={() => void template.refetch()} />}
          </Loaded>
        )}
      </Loaded>
    </Screen>
  );
}
