import type { Problem } from './generated/schema';

/** ProblemError is every failure of a call: a problem document of the master, or what stands in for one when no answer came. */
export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = 'ProblemError';
    this.problem = problem;
  }

  get code(): string {
    return this.problem.code;
  }
}

/** problemOf reads a failed answer. What is no problem document, a proxy's page for instance, becomes one. */
export async function problemOf(response: Response): Promise<ProblemError> {
  if (/json/.test(response.headers.get('Content-Type') ?? '')) {
    const body: unknown = await response.json().catch(() => undefined);
    if (isProblem(body)) return new ProblemError(body);
  }
  return new ProblemError({
    title: response.statusText || 'Unexpected answer',
    status: response.status,
    code: 'not-the-master',
    detail: `Something answered with status ${response.status}, and it was not the master.`,
    next: 'Look whether a proxy stands between this browser and the master, and whether the master runs.',
  });
}

function isProblem(v: unknown): v is Problem {
  return typeof v === 'object' && v !== null && 'code' in v && typeof v.code === 'string' && 'title' in v && 'status' in v;
}

/** asProblem makes a problem of anything that was thrown. */
export function asProblem(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (isProblem(error)) return error;
  if (error instanceof TypeError) {
    return {
      title: 'The master cannot be reached',
      status: 0,
      code: 'unreachable',
      detail: 'The request did not get an answer.',
      next: 'Check that the master runs and that this device is connected. This page tries again by itself.',
    };
  }
  return {
    title: 'The dashboard hit a bug',
    status: 0,
    code: 'dashboard',
    detail: error instanceof Error ? error.message : String(error),
    next: 'Reload the page. If it comes again, report it with this text.',
  };
}
