import { useMutation } from '@tanstack/react-query';
import { queries } from '../api/client';
import { done, failed } from '../parts/toasts';

interface Words<V> {
  /** Shown when it was done. Empty: what is on the page says it. */
  done?: string | ((v: V) => string);
  /** Shown, with the reason, when it was not: "The machine was not paused". */
  failed: string;
}

/** useAct runs what changes something: it says what became of it, and reads again what it may have changed. */
export function useAct<V = void, R = unknown>(act: (v: V) => Promise<R>, words: Words<V>) {
  const mutation = useMutation({
    mutationFn: act,
    onSuccess: (_, v) => {
      const text = typeof words.done === 'function' ? words.done(v) : words.done;
      if (text) done(text);
    },
    onError: (error) => failed(words.failed, error),
    onSettled: () => void queries.invalidateQueries(),
  });
  return { run: mutation.mutateAsync, start: mutation.mutate, busy: mutation.isPending, error: mutation.error };
}
