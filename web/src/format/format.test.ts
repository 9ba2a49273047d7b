import { describe, expect, it } from 'vitest';
import { bytes, count, percent, rate } from './amount';
import { consoleLines, shown, words } from './text';
import { ago, clock, duration, isSet, seconds, span } from './time';

describe('amounts', () => {
  it.each([
    [0, '0 B'], [1023, '1.00 KiB'], [999, '999 B'], [1024, '1.00 KiB'], [10_240, '10.0 KiB'], [104_857_600, '100 MiB'], [1 << 30, '1.00 GiB'],
    [-2048, '−2.00 KiB'], [Number.NaN, '–'], [undefined, '–'], [2 ** 70, '1024 EiB'],
  ])('%s is %s', (n, text) => expect(bytes(n as number)).toBe(text));
  it('never says all of what is not all', () => {
    expect(percent(999, 1000)).toBe(99);
    expect(percent(1000, 1000)).toBe(100);
    expect(percent(5, 0)).toBe(0);
    expect(percent(-1, 10)).toBe(0);
    expect(percent(20, 10)).toBe(100);
  });
  it('counts', () => {
    expect(count(1, 'machine')).toBe('1 machine');
    expect(count(1200, 'entry', 'entries')).toBe('1,200 entries');
    expect(rate(1024)).toBe('1.00 KiB/s');
  });
});

describe('time spans', () => {
  it.each([
    ['1h2m3.5s', 3723.5], ['250ms', 0.25], ['-1ns', -1e-9], ['0s', 0], ['', 0], [undefined, 0], ['72h', 259_200], ['1m0s', 60], ['1µs', 1e-6], ['nonsense', 0],
  ])('%s', (text, want) => expect(seconds(text as string)).toBeCloseTo(want as number, 12));
  it.each([
    [0, '0 s'], [0.25, '250 ms'], [0.9999, '1 s'], [3.14, '3.1 s'], [59.7, '1 min'], [61, '1 min 1 s'], [3600, '1 h'], [3723, '1 h 2 min'], [90_000, '1 d 1 h'], [-61, '−1 min 1 s'],
  ])('%s seconds', (secs, text) => expect(duration(secs)).toBe(text));
  it('reads what the API says', () => expect(span('1h30m0s')).toBe('1 h 30 min'));
});

describe('times', () => {
  const at = new Date('2026-11-30T13:04:05Z');
  it('are in a zone, with its name', () => {
    expect(clock(at, 'UTC')).toBe('2026-11-30 13:04:05 UTC');
    expect(clock(at, 'Asia/Kolkata')).toMatch(/^2026-11-30 18:34:05 /);
    expect(clock(new Date('2026-11-30T00:00:00Z'), 'UTC')).toBe('2026-11-30 00:00:00 UTC');
  });
  it('are so long ago', () => {
    expect(ago(at, new Date('2026-11-30T13:04:07Z'))).toBe('just now');
    expect(ago(at, new Date('2026-11-30T14:04:05Z'))).toBe('1 h ago');
    expect(ago(at, new Date('2026-11-30T13:03:05Z'))).toBe('in 1 min');
  });
  it('may be missing', () => {
    expect(isSet('0001-01-01T00:00:00Z')).toBe(false);
    expect(isSet(undefined)).toBe(false);
    expect(isSet('2026-11-30T13:04:05Z')).toBe(true);
  });
});

describe('hostile text', () => {
  it('shows what turns text around', () => {
    expect(shown('abc\u202Egpj.exe')).toBe('abc⟨U+202E⟩gpj.exe');
    expect(shown('a\u200Bb\uFEFF')).toBe('a⟨U+200B⟩b⟨U+FEFF⟩');
    expect(shown('\u2066x\u2069')).toBe('⟨U+2066⟩x⟨U+2069⟩');
  });
  it('shows control characters', () => expect(shown('a\nb\u0000c\u007f\u009b')).toBe('a␊b␀c␦␦'));
  it('leaves markup and quotes as they are: React writes them as text', () => expect(shown(`<b>"'&</b>`)).toBe(`<b>"'&</b>`));
  it('cuts what is long, and no character in half', () => {
    expect(shown('x'.repeat(10_000), 60)).toBe('x'.repeat(59) + '…');
    expect(shown('😀'.repeat(100), 10)).toBe('😀'.repeat(9) + '…');
    expect(shown('x'.repeat(60), 60)).toBe('x'.repeat(60));
  });
  it('leaves other scripts as they are', () => expect(shown('שרת-1 サーバー é')).toBe('שרת-1 サーバー é'));
});

describe('console', () => {
  it('drops what moves the cursor', () => {
    expect(consoleLines('\u001b[2J\u001b[1;1H\u001b[32m[  OK  ]\u001b[0m Started\u001b]0;title\u0007 it\r\n')).toEqual(['[  OK  ] Started it']);
  });
  it('shows what was written last on a line', () => expect(consoleLines('10%\r20%\r30%\ndone')).toEqual(['30%', 'done']));
  it('drops control characters and marks, and keeps tabs', () => expect(consoleLines('a\u0000b\tc\u202E\u0007')).toEqual(['ab\tc']));
  it('keeps the end', () => expect(consoleLines(Array.from({ length: 1000 }, (_, i) => String(i)).join('\n'), 3)).toEqual(['997', '998', '999']));
  it('is fast on what never ends', () => {
    const began = performance.now();
    consoleLines('\u001b]'.repeat(50_000) + '\u001b['.repeat(50_000));
    expect(performance.now() - began).toBeLessThan(1000);
  });
});

it('makes words of identifiers', () => expect(words('ready-for-cutover')).toBe('Ready for cutover'));
