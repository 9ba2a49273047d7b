// Fails when the first screen is larger than it may be: everything that a browser fetches before it shows the overview, compressed as it is sent, fonts included.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const limit = 600_000; // bytes
const first = ['index.html', 'src/screens/Overview.tsx'];
const dist = new URL('../dist/', import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(dist, 'manifest.json'), 'utf8'));

const files = new Set(['index.html']);
const walk = (key) => {
  const part = manifest[key];
  if (!part) throw new Error(`${key} is not in dist/manifest.json`);
  if (files.has(part.file)) return;
  files.add(part.file);
  for (const css of part.css ?? []) files.add(css);
  for (const asset of part.assets ?? []) files.add(asset);
  for (const other of part.imports ?? []) walk(other);
};
first.forEach(walk);

// Of the fonts a browser fetches those that the page uses: the upright ones. Pictures are of parts that no screen has.
const used = [...files].filter((f) => !/Italic/.test(f) && !/\.(svg|jpg|png)$/.test(f));
const sent = (f) => (f.endsWith('.woff2') ? statSync(join(dist, f)).size : gzipSync(readFileSync(join(dist, f)), { level: 9 }).length);
let total = 0;
for (const f of used.sort()) {
  const size = sent(f);
  total += size;
  if (process.argv.includes('-v')) console.log(String(size).padStart(8), f);
}
console.log(`first screen: ${total} of ${limit} bytes`);
if (total > limit) {
  console.error('The first screen is too large: see what was added with node scripts/bundle-size.mjs -v');
  process.exit(1);
}
