import type { LaunchTemplate, ProviderInfo } from '../api/generated/schema';
import { bytes } from '../format/amount';

/** The parts of a provider's catalogue that are looked at here. The document leaves them open, since each provider adds its own. */
export interface InstanceType {
  id: string;
  cpus: number;
  memory: number;
  firmware?: string[];
  buses?: string[];
}

export interface Network {
  id: string;
  name: string;
  zone?: string;
  isolated?: boolean;
  help?: string;
}

export interface Capabilities {
  zones?: string[];
  unusable?: string;
  notes?: string[];
  forwards?: boolean;
  console?: boolean;
  screenshot?: boolean;
  max_disks?: number;
  max_volume?: number;
}

const list = <T>(v: unknown): T[] => (Array.isArray(v) ? (v as T[]) : []);

export const typesOf = (p: ProviderInfo | undefined) => list<InstanceType>(p?.types);
export const networksOf = (p: ProviderInfo | undefined) => list<Network>(p?.networks);
export const capabilitiesOf = (p: ProviderInfo | undefined) => (p?.capabilities ?? {}) as Capabilities;

export const describeType = (t: InstanceType) => `${t.id}: ${t.cpus} CPU, ${bytes(t.memory)}`;

/** Fault is what the catalogue has against a template, and where. */
export interface Fault {
  field: keyof LaunchTemplate;
  text: string;
}

/** faults are what a provider would refuse in a template. The master looks again; this only says it earlier. */
export function faults(t: LaunchTemplate, providers: ProviderInfo[]): Fault[] {
  const found: Fault[] = [];
  const say = (field: keyof LaunchTemplate, text: string) => found.push({ field, text });
  const p = t.provider ? providers.find((x) => x.name === t.provider) : providers.length === 1 ? providers[0] : undefined;
  if (t.provider && !p) say('provider', `There is no provider ${t.provider}.`);
  if (!t.provider && providers.length > 1) say('provider', 'There are several providers: choose one.');
  if (p?.error) say('provider', `It cannot be used now: ${p.error}`);
  if (t.cpus !== undefined && t.cpus !== 0 && (t.cpus < 1 || t.cpus > 4096 || !Number.isInteger(t.cpus))) say('cpus', 'Want a whole number from 1 to 4096.');
  if (t.memory !== undefined && t.memory !== 0 && t.memory < 64 << 20) say('memory', 'No system starts with less than 64 MiB.');
  for (const port of t.forward ?? []) if (!Number.isInteger(port) || port < 1 || port > 65535) say('forward', `${port} is no port: want 1 to 65535.`);
  if (!p || p.error) return found;
  const caps = capabilitiesOf(p);
  const types = typesOf(p);
  const type = types.find((x) => x.id === t.type);
  if (t.type && types.length > 0 && !type) say('type', `${p.name} has no type ${t.type}.`);
  if (t.type && (t.cpus || t.memory)) say('cpus', 'The type says how many processors and how much memory: leave these empty.');
  if (t.firmware && type?.firmware && !type.firmware.includes(t.firmware)) say('firmware', `${type.id} starts with ${type.firmware.join(' or ')} only.`);
  if (t.bus && type?.buses && !type.buses.includes(t.bus)) say('bus', `${type.id} has ${type.buses.join(', ')}.`);
  if (t.network && !networksOf(p).some((n) => n.id === t.network || n.name === t.network)) say('network', `${p.name} has no network ${t.network}.`);
  if (t.zone && caps.zones && !caps.zones.includes(t.zone)) say('zone', `${p.name} has ${caps.zones.join(', ')}.`);
  if ((t.forward ?? []).length > 0 && caps.forwards !== true) say('forward', `${p.name} forwards no ports.`);
  return found;
}
