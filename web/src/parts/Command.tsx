import { ClipboardCopy } from '@patternfly/react-core';

/** Command is something to paste into a shell. */
export function Command({ text, label }: { text: string; label: string }) {
  return (
    <ClipboardCopy variant="inline-compact" isCode isBlock hoverTip="Copy" clickTip="Copied" copyAriaLabel={`Copy ${label}`}>
      {text}
    </ClipboardCopy>
  );
}
