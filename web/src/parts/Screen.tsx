import { useEffect, useRef, type ReactNode } from 'react';
import { Breadcrumb, BreadcrumbItem, Content, Flex, FlexItem, PageSection, Title } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';

interface Props {
  title: string;
  /** What stands in place of the title when it is more than text. */
  heading?: ReactNode;
  text?: ReactNode;
  trail?: { to: string; label: ReactNode }[];
  actions?: ReactNode;
  children: ReactNode;
}

/** Screen is one page with its heading, to which the keyboard's focus goes when it opens. */
export function Screen({ title, heading, text, trail, actions, children }: Props) {
  const top = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · OpenMigrate`;
  }, [title]);
  useEffect(() => {
    top.current?.focus({ preventScroll: true });
  }, []);
  return (
    <>
      <PageSection>
        {trail && (
          <Breadcrumb className="om-trail">
            {trail.map((t) => (
              <BreadcrumbItem key={t.to} render={({ className }) => <Link to={t.to} className={className}>{t.label}</Link>} />
            ))}
            <BreadcrumbItem isActive>{heading ?? title}</BreadcrumbItem>
          </Breadcrumb>
        )}
        <Flex justifyContent={{ default: 'justifyContentSpaceBetween' }} alignItems={{ default: 'alignItemsCenter' }}>
          <FlexItem>
            <Title headingLevel="h1" ref={top} tabIndex={-1} className="om-heading">{heading ?? title}</Title>
          </FlexItem>
          {actions && <FlexItem className="om-actions">{actions}</FlexItem>}
        </Flex>
        {text && <Content component="p" className="om-lead">{text}</Content>}
      </PageSection>
      <PageSection>{children}</PageSection>
    </>
  );
}
