/**
 * Names, messages and consoles come from machines that nobody vouches for. React writes them as text, never as markup; this makes sure that they also look like
 * what they are.
 */

// Characters that turn the order of the text around them, or that cannot be seen.
const hidden = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad\u180e]/g;
const control = /[\u0000-\u001f\u007f-\u009f]/g;

/** shown makes every character of a text visible and in its place, and cuts what is too long to be looked at. */
export function shown(text: string, most = 120): string {
  const visible = text
    .slice(0, most * 4)
    .replace(control, (c) => (c.charCodeAt(0) < 0x20 ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : '\u2426'))
    .replace(hidden, (c) => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`);
  const points = Array.from(visible);
  return points.length <= most && text.length <= most * 4 ? visible : points.slice(0, most - 1).join('') + '\u2026';
}

// Control sequences of terminals: CSI, OSC, and short ones.
const sequences = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_]|[ -/]+[0-~])/g;

/** consoleLines is what a console says, without what would move its cursor, at most the last lines. A line that was written over shows what was written last. */
export function consoleLines(text: string, most = 500): string[] {
  const lines = text
    .replace(sequences, '')
    .split(/\r*\n/)
    .map((line) => line.slice(line.lastIndexOf('\r') + 1))
    .map((line) => line.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '').replace(hidden, ''));
  while (lines.length > 0 && lines[lines.length - 1] === '') lines.pop();
  return lines.slice(-most);
}

/** words turns an identifier of the API into what people read: ready-for-cutover becomes Ready for cutover. */
export function words(id: string): string {
  const text = id.replace(/[-_]/g, ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}
