import { useState } from 'react';
import { Breadcrumb, BreadcrumbItem, Button, Content, FormSelect, FormSelectOption, TextInput, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api, fetchBlob } from '../../api/client';
import type { FileInfo, RestpointInfo } from '../../api/generated/schema';
import { usesToken } from '../../api/session';
import { useAct } from '../../app/act';
import { crumbs, downloadPath, inside } from '../../app/paths';
import { bytes } from '../../format/amount';
import { shown } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { Time } from '../../parts/Time';

/** What is got with a token goes through this page's memory: more than that is for the command line. */
const mostInMemory = 256 << 20;

/** Files browses the disks of a restpoint. Nothing is restored for it. */
export function Files({ r }: { r: RestpointInfo }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Content component="h2">Files</Content>
      {open ? <Browser r={r} /> : <Button variant="secondary" onClick={() => setOpen(true)}>Browse files</Button>}
    </>
  );
}

function Browser({ r }: { r: RestpointInfo }) {
  const [disk, setDisk] = useState(0);
  const [partition, setPartition] = useState(0);
  const [path, setPath] = useState('/');
  const [trail, setTrail] = useState<Trail>([]);
  const go = (to: string) => {
    setTrail([]);
    setPath(to);
  };
  const query = api.useQuery('get', '/api/v1/restpoints/{restpoint}/disks/{disk}/files',
    { params: { path: { restpoint: r.id, disk }, query: { partition, path, limit: 200, cursor: trail.at(-1) } } },
    { staleTime: Infinity, refetchInterval: false });
  return (
    <>
      <Toolbar aria-label="Where to look">
        <ToolbarContent>
          <ToolbarItem>
            <FormSelect aria-label="Disk" value={disk} onChange={(_, v) => { setDisk(Number(v)); go('/'); }}>
              {r.disks.map((d) => <FormSelectOption key={d.number} value={d.number} label={`Disk ${d.number}: ${shown(d.name, 40)}`} />)}
            </FormSelect>
          </ToolbarItem>
          <ToolbarItem alignSelf="center"><label htmlFor="partition">Partition (0: the only one, or none)</label></ToolbarItem>
          <ToolbarItem><TextInput id="partition" type="number" min={0} max={256} value={partition} onChange={(_, v) => { setPartition(Math.max(0, Number(v) || 0)); go('/'); }} /></ToolbarItem>
        </ToolbarContent>
      </Toolbar>
      <Breadcrumb aria-label="Folder">
        {crumbs(path).map((c) => (
          <BreadcrumbItem key={c.path} isActive={c.path === path} component="button" onClick={() => go(c.path)}><Name text={c.name} most={40} /></BreadcrumbItem>
        ))}
      </Breadcrumb>
      <Loaded query={query}>
        {(page) => page.items.length === 0 ? <Nothing title="The folder is empty">Go up by the names above.</Nothing> : (
          <>
            <Table aria-label="Files" variant="compact">
              <Thead><Tr><Th>Name</Th><Th>Size</Th><Th>Changed</Th><Th>Mode</Th><Th>Owner</Th><Th screenReaderText="Get it" /></Tr></Thead>
              <Tbody>
                {page.items.map((f) => (
                  <Row key={f.name} f={f} open={() => go(inside(path, f.name))} at={downloadPath(r.id, disk, partition, inside(path, f.name))} />
                ))}
              </Tbody>
            </Table>
            <Pager trail={trail} next={page.next_cursor} total={page.total} what="entries" go={setTrail} />
          </>
        )}
      </Loaded>
    </>
  );
}

function Row({ f, open, at }: { f: FileInfo; open: () => void; at: string }) {
  return (
    <Tr>
      <Td dataLabel="Name">
        {f.type === 'folder' ? <Button variant="link" isInline onClick={open}><Name text={f.name} /></Button> : <Name text={f.name} />}
        {f.link && <span className="om-quiet"> → <Name text={f.link} /></span>}
      </Td>
      <Td dataLabel="Size" className="om-number">{f.type === 'file' ? bytes(f.size) : '–'}</Td>
      <Td dataLabel="Changed"><Time at={f.modified} /></Td>
      <Td dataLabel="Mode"><code>{shown(f.mode, 12)}</code></Td>
      <Td dataLabel="Owner">{f.uid}:{f.gid}</Td>
      <Td>{f.type === 'file' && <Download f={f} at={at} />}</Td>
    </Tr>
  );
}

/** Download gets a file: the browser by itself when its cookie is enough, through this page's memory when a token is needed. */
function Download({ f, at }: { f: FileInfo; at: string }) {
  const label = `Download ${shown(f.name, 60)}`;
  const fileName = shown(f.name, 255); // in a folder of downloads, too, a name must look like what it is
  const get = useAct(async () => {
    const url = URL.createObjectURL(await fetchBlob(at));
    const link = document.createElement('a');
    link.href = url;
    link.download = fileName;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }, { failed: 'The file was not downloaded' });
  if (!usesToken()) return <a href={at} download={fileName} aria-label={label}>Download</a>;
  if (f.size > mostInMemory) return <span className="om-quiet">openmigrate restpoints cp</span>;
  return <Button variant="link" isInline isLoading={get.busy} aria-label={label} onClick={() => get.start()}>Download</Button>;
}
