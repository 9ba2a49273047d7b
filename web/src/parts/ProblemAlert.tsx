import { Alert, AlertActionLink } from '@patternfly/react-core';
import { asProblem } from '../api/problem';
import { shown } from '../format/text';

/** ProblemAlert says what happened and what to do next. */
export function ProblemAlert({ error, retry, title }: { error: unknown; retry?: () => void; title?: string }) {
  const problem = asProblem(error);
  return (
    <Alert
      isInline
      variant="danger"
      title={title ?? problem.title}
      actionLinks={retry && <AlertActionLink onClick={retry}>Try again</AlertActionLink>}
    >
      {problem.detail && <p>{shown(problem.detail, 1000)}</p>}
      {problem.field && <p>Field: {shown(problem.field)}</p>}
      {problem.next && <p>Next: {shown(problem.next, 500)}</p>}
      <p className="om-quiet">Code: {problem.code}</p>
    </Alert>
  );
}
