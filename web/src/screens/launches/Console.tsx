import { useEffect, useRef } from 'react';
import { Content } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { fetchBlob } from '../../api/client';
import { consoleLines } from '../../format/text';
import { Loaded } from '../../parts/Loaded';

const pace = 4000;

/** Console is the end of what the copy wrote to its serial console, without control sequences. It follows as long as nobody scrolls up. */
export function Console({ launch, live }: { launch: string; live: boolean }) {
  const query = useQuery({
    queryKey: ['get', '/api/v1/launches/{launch}/console', { params: { path: { launch } } }],
    queryFn: async ({ signal }) => (await fetchBlob(`/api/v1/launches/${encodeURIComponent(launch)}/console`, signal)).text(),
    refetchInterval: live ? pace : false,
    retry: false,
  });
  return (
    <>
      <Content component="h2">Console</Content>
      <Loaded query={query}>{(text) => <Tail lines={consoleLines(text)} />}</Loaded>
    </>
  );
}

function Tail({ lines }: { lines: string[] }) {
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines.length]);
  if (lines.length === 0) return <Content component="p">The copy has written nothing yet.</Content>;
  const scrolled = (at: HTMLElement) => {
    atEnd.current = at.scrollTop + at.clientHeight >= at.scrollHeight - 8;
  };
  return <pre ref={box} className="om-log" tabIndex={0} aria-label="Console of the copy" onScroll={(e) => scrolled(e.currentTarget)}>{lines.join('\n')}</pre>;
}
