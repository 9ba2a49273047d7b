/** Crumb is a folder on the way to a path. */
export interface Crumb {
  name: string;
  path: string;
}

/** crumbs are all folders on the way to a path, from the root. */
export function crumbs(path: string): Crumb[] {
  const parts = path.split('/').filter(Boolean);
  return [{ name: '/', path: '/' }, ...parts.map((name, i) => ({ name, path: '/' + parts.slice(0, i + 1).join('/') }))];
}

/** inside is the path of a name in a folder. */
export function inside(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`;
}

/** downloadPath is where the API has a file. */
export function downloadPath(restpoint: string, disk: number, partition: number, path: string): string {
  const query = new URLSearchParams({ partition: String(partition), path });
  return `/api/v1/restpoints/${encodeURIComponent(restpoint)}/disks/${disk}/download?${query.toString()}`;
}
