import { Button, Flex, FlexItem } from '@patternfly/react-core';

/** Trail is the cursors of the pages that were gone through; the last one is of the page that is shown. */
export type Trail = string[];

interface Props {
  trail: Trail;
  next: string | undefined;
  total: number;
  what: string;
  go: (trail: Trail) => void;
}

/** Pager goes through a list by the cursors that the master gives. It knows no page numbers: what comes and goes in between neither repeats nor hides others. */
export function Pager({ trail, next, total, what, go }: Props) {
  return (
    <Flex className="om-pager" spaceItems={{ default: 'spaceItemsSm' }} alignItems={{ default: 'alignItemsCenter' }}>
      <FlexItem>
        {total.toLocaleString('en')} {what}
        {trail.length > 0 && `, page ${trail.length + 1}`}
      </FlexItem>
      {(trail.length > 0 || next) && (
        <FlexItem>
          <Button variant="secondary" size="sm" isDisabled={trail.length === 0} onClick={() => go(trail.slice(0, -1))}>Previous</Button>{' '}
          <Button variant="secondary" size="sm" isDisabled={!next} onClick={() => next && go([...trail, next])}>Next</Button>
        </FlexItem>
      )}
    </Flex>
  );
}
