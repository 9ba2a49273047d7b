import { useSyncExternalStore } from 'react';
import { Alert, AlertActionCloseButton, AlertGroup } from '@patternfly/react-core';
import { asProblem } from '../api/problem';
import { shown } from '../format/text';

interface Toast {
  key: number;
  variant: 'success' | 'danger';
  title: string;
  text?: string;
  next?: string;
}

const most = 5;
let toasts: Toast[] = [];
let keys = 0;
const listeners = new Set<() => void>();

function become(next: Toast[]): void {
  toasts = next.slice(-most);
  for (const listener of listeners) listener();
}

/** done says that something was done. */
export function done(title: string): void {
  become([...toasts, { key: keys++, variant: 'success', title }]);
}

/** failed says that something was not, and why. It stays until it is closed. */
export function failed(title: string, error: unknown): void {
  const problem = asProblem(error);
  become([...toasts, { key: keys++, variant: 'danger', title, text: problem.detail ?? problem.title, next: problem.next }]);
}

/** Toasts shows what was done; screen readers hear it. */
export function Toasts() {
  const list = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  const close = (key: number) => become(toasts.filter((t) => t.key !== key));
  return (
    <AlertGroup isToast isLiveRegion aria-label="Messages">
      {list.map((t) => (
        <Alert key={t.key} variant={t.variant} title={shown(t.title)} timeout={t.variant === 'success' ? 6000 : false} onTimeout={() => close(t.key)}
          actionClose={<AlertActionCloseButton title={shown(t.title)} onClose={() => close(t.key)} />}>
          {t.text && <p>{shown(t.text, 600)}</p>}
          {t.next && <p>Next: {shown(t.next, 400)}</p>}
        </Alert>
      ))}
    </AlertGroup>
  );
}
