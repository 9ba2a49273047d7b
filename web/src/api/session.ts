import { useSyncExternalStore } from 'react';
import type { LinkInfo, LoginWays, Problem, Whoami } from './generated/schema';
import { asProblem, problemOf } from './problem';

/**
 * Who is signed in. This is the one place that knows how: a cookie that scripts cannot read, which the browser sends by itself, or an API token, which
 * is kept for this tab only and dies with it.
 */
export type Session =
  | { state: 'asking' }
  | { state: 'out'; why?: Problem }
  | { state: 'in'; who: Whoami; by: 'cookie' | 'token' };

const tokenKey = 'openmigrate-token';
let session: Session = { state: 'asking' };
const listeners = new Set<() => void>();

function become(next: Session): void {
  session = next;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useSession(): Session {
  return useSyncExternalStore(subscribe, () => session);
}

/** useWho is who is signed in; only for what is shown to somebody who is. */
export function useWho(): Whoami {
  const s = useSession();
  if (s.state !== 'in') throw new Error('nobody is signed in');
  return s.who;
}

/** authorize puts the token, if there is one, on a request. */
export function authorize(headers: Headers): void {
  const token = sessionStorage.getItem(tokenKey);
  if (token) headers.set('Authorization', `Bearer ${token}`);
}

/** usesToken reports whether requests that a browser makes by itself, a download for instance, would go out as nobody. */
export function usesToken(): boolean {
  return sessionStorage.getItem(tokenKey) !== null;
}

async function whoami(): Promise<Whoami> {
  const headers = new Headers();
  authorize(headers);
  const response = await fetch('/api/v1/whoami', { headers });
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as Whoami;
}

/** resume finds out who is signed in already. */
export async function resume(): Promise<void> {
  const by = usesToken() ? 'token' : 'cookie';
  try {
    become({ state: 'in', who: await whoami(), by });
  } catch (error) {
    const problem = asProblem(error);
    // Nobody is signed in: that is where everybody begins, and no failure.
    become({ state: 'out', why: problem.status === 401 && by === 'cookie' ? undefined : problem });
  }
}

/** signInWithToken tries a token and keeps it if the master takes it. */
export async function signInWithToken(token: string): Promise<void> {
  sessionStorage.setItem(tokenKey, token.trim());
  try {
    become({ state: 'in', who: await whoami(), by: 'token' });
  } catch (error) {
    sessionStorage.removeItem(tokenKey);
    throw error;
  }
}

/** signInWithPassword lets the master set the session's cookie, which no script can read. */
export async function signInWithPassword(name: string, password: string): Promise<void> {
  await post('/api/v1/login', { name, password });
  become({ state: 'in', who: await whoami(), by: 'cookie' });
}

/** waysIn says through whom else people can sign in. */
export async function waysIn(): Promise<LoginWays> {
  const response = await fetch('/api/v1/login');
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as LoginWays;
}

/** askLink tells what a one-time link is good for; spendLink sets a password with it, and signs in. */
export async function askLink(link: string): Promise<LinkInfo> {
  return (await post('/api/v1/link', { link })).json() as Promise<LinkInfo>;
}

export async function spendLink(link: string, password: string, name?: string): Promise<void> {
  await post('/api/v1/link/use', { link, password, ...(name && { name }) });
  become({ state: 'in', who: await whoami(), by: 'cookie' });
}

/** signOut ends the session at the master, too: its cookie is worthless from then on. */
export async function signOut(): Promise<void> {
  if (session.state === 'in' && session.by === 'cookie') await post('/api/v1/logout');
  signedOut();
}

async function post(path: string, body?: unknown): Promise<Response> {
  const headers = body === undefined ? undefined : { 'Content-Type': 'application/json' };
  const response = await fetch(path, { method: 'POST', headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** signedOut forgets who was signed in, because he wants it or because the master does. */
export function signedOut(why?: Problem): void {
  sessionStorage.removeItem(tokenKey);
  become({ state: 'out', why });
}
