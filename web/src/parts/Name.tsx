import { shown } from '../format/text';

/** Name shows a text that comes from outside, in a box of its own for the direction of writing. */
export function Name({ text, most = 60 }: { text: string; most?: number }) {
  const visible = shown(text, most);
  return (
    <bdi className="om-name" title={visible === text ? undefined : shown(text, 1000)}>
      {visible}
    </bdi>
  );
}
