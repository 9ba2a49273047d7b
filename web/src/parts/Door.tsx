import { useEffect, type ReactNode } from 'react';
import { Card, CardBody, CardTitle } from '@patternfly/react-core';

/** Door is a page for somebody who is not in yet. */
export function Door({ title, children }: { title: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · OpenMigrate`;
  }, [title]);
  return (
    <main className="om-door">
      <Card isLarge>
        <CardTitle component="h1">{title}</CardTitle>
        <CardBody>{children}</CardBody>
      </Card>
    </main>
  );
}
