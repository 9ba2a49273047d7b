/** heat is how much of a part changed, in five steps: 0 nothing, 4 nearly all of it. Anything that changed at all can be seen. */
export function heat(changed: number, part: number): 0 | 1 | 2 | 3 | 4 {
  if (changed <= 0) return 0;
  if (part <= 0) return 4;
  return Math.max(1, Math.min(4, Math.ceil((changed / part) * 4))) as 1 | 2 | 3 | 4;
}
