import type { ComponentType, ReactNode } from 'react';
import { EmptyState, EmptyStateActions, EmptyStateBody, EmptyStateFooter } from '@patternfly/react-core';

/** Nothing stands where a list is empty, and says what to do. */
export function Nothing({ title, icon, children, action }: { title: string; icon?: ComponentType; children: ReactNode; action?: ReactNode }) {
  return (
    <EmptyState titleText={title} icon={icon} headingLevel="h2" variant="sm">
      <EmptyStateBody>{children}</EmptyStateBody>
      {action && (
        <EmptyStateFooter>
          <EmptyStateActions>{action}</EmptyStateActions>
        </EmptyStateFooter>
      )}
    </EmptyState>
  );
}
