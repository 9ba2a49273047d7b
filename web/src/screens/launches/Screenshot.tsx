import { useEffect, useState } from 'react';
import { Content } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { fetchBlob } from '../../api/client';
import { Loaded } from '../../parts/Loaded';

/** Screenshot is what the copy's screen showed when it was checked. */
export function Screenshot({ launch }: { launch: string }) {
  const query = useQuery({
    queryKey: ['get', '/api/v1/launches/{launch}/screenshot', { params: { path: { launch } } }],
    queryFn: ({ signal }) => fetchBlob(`/api/v1/launches/${encodeURIComponent(launch)}/screenshot`, signal),
    refetchInterval: false,
    retry: false,
  });
  return (
    <>
      <Content component="h2">Screen</Content>
      <Loaded query={query}>{(blob) => <Picture blob={blob} />}</Loaded>
    </>
  );
}

function Picture({ blob }: { blob: Blob }) {
  const [url, setURL] = useState<string>();
  useEffect(() => {
    // Whatever a guest showed is a picture and nothing else.
    const made = URL.createObjectURL(new Blob([blob], { type: 'image/png' }));
    setURL(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url ? <img className="om-screenshot" src={url} alt="What the copy’s screen showed" /> : null;
}
