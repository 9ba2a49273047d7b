import { useSyncExternalStore } from 'react';

/** Preferences are this browser's: nobody else sees them, and nothing depends on them. */
export interface Preferences {
  theme: 'system' | 'light' | 'dark';
  utc: boolean;
  /** Of a GiB in staging for a month, in the viewer's currency: the master does not know what the bucket costs. */
  price: number;
  /** Of a GiB of volumes at a provider for a month, and of a processor for an hour; 0: not known. */
  volumePrice: number;
  cpuPrice: number;
  currency: string;
  views: SavedView[];
}

/** SavedView is a search of machines with a name. */
export interface SavedView {
  name: string;
  search: Record<string, unknown>;
}

const key = 'openmigrate-preferences';
const mostViews = 50;
const standard: Preferences = { theme: 'system', utc: false, price: 0.023, volumePrice: 0, cpuPrice: 0, currency: '$', views: [] };
const listeners = new Set<() => void>();
let current = read();

function read(): Preferences {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? '{}');
    return typeof kept === 'object' ? { ...standard, ...kept } : standard;
  } catch {
    return standard; // somebody else wrote there, or nothing may be kept
  }
}

export function usePreferences(): Preferences {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => current,
  );
}

export function prefer(change: Partial<Preferences>): void {
  current = { ...current, ...change };
  current.views = current.views.slice(-mostViews);
  try {
    localStorage.setItem(key, JSON.stringify(current));
  } catch {
    // A private window: it lasts as long as the page.
  }
  applyTheme();
  for (const listener of listeners) listener();
}

const darkSystem = window.matchMedia('(prefers-color-scheme: dark)');
darkSystem.addEventListener('change', () => {
  applyTheme();
  for (const listener of listeners) listener();
});

export function isDark(): boolean {
  return current.theme === 'dark' || (current.theme === 'system' && darkSystem.matches);
}

/** applyTheme puts the theme on the page. */
export function applyTheme(): void {
  document.documentElement.classList.toggle('pf-v6-theme-dark', isDark());
}
