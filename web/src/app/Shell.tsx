import { useEffect, useState } from 'react';
import {
  Brand, Button, Label, Masthead, MastheadBrand, MastheadContent, MastheadLogo, MastheadMain, MastheadToggle, Nav, NavItem, NavList, Page, PageSidebar,
  PageSidebarBody, PageToggleButton, SkipToContent, Toolbar, ToolbarContent, ToolbarGroup, ToolbarItem, Tooltip,
} from '@patternfly/react-core';
import BarsIcon from '@patternfly/react-icons/dist/esm/icons/bars-icon';
import MoonIcon from '@patternfly/react-icons/dist/esm/icons/moon-icon';
import SunIcon from '@patternfly/react-icons/dist/esm/icons/sun-icon';
import { Link, Outlet, useLocation } from '@tanstack/react-router';
import { queries } from '../api/client';
import { follow, useLiveness } from '../api/events';
import { resume, signOut, useSession } from '../api/session';
import { Name } from '../parts/Name';
import { failed, Toasts } from '../parts/toasts';
import { SignIn } from '../screens/SignIn';
import { Welcome } from '../screens/Welcome';
import { isDark, prefer, usePreferences } from './preferences';

const places = [
  { to: '/overview', label: 'Overview' },
  { to: '/machines', label: 'Machines' },
  { to: '/launches', label: 'Launches' },
  { to: '/providers', label: 'Providers' },
  { to: '/nodes', label: 'Nodes and staging' },
  { to: '/access', label: 'Access' },
  { to: '/settings', label: 'Settings' },
] as const;

/** Shell is what is around every screen. Nobody gets past it who is not signed in. */
export function Shell() {
  const session = useSession();
  const { pathname } = useLocation();
  const state = session.state;
  useEffect(() => {
    void resume();
  }, []);
  useEffect(() => {
    if (state !== 'in') {
      queries.clear();
      return;
    }
    const leave = new AbortController();
    void follow(queries, leave.signal);
    return () => leave.abort();
  }, [state]);
  if (pathname === '/welcome') return <Welcome />;
  if (session.state === 'asking') return <main aria-busy="true" />;
  if (session.state === 'out') return <SignIn key={session.why?.code} why={session.why} />;
  return <Frame name={session.who.name} role={session.who.role} />;
}

function Frame({ name, role }: { name: string; role: string }) {
  const { pathname } = useLocation();
  const wide = window.matchMedia('(min-width: 75rem)').matches;
  const [open, setOpen] = useState(wide);
  useEffect(() => {
    if (!window.matchMedia('(min-width: 75rem)').matches) setOpen(false);
  }, [pathname]);
  const sidebar = (
    <PageSidebar isSidebarOpen={open}>
      <PageSidebarBody>
        <Nav aria-label="Places">
          <NavList>
            {places.map((p) => {
              const here = pathname === p.to || pathname.startsWith(p.to + '/');
              return (
                <NavItem key={p.to} isActive={here}>
                  <Link to={p.to} aria-current={here ? 'page' : undefined}>{p.label}</Link>
                </NavItem>
              );
            })}
          </NavList>
        </Nav>
      </PageSidebarBody>
    </PageSidebar>
  );
  return (
    <Page masthead={<Head name={name} role={role} open={open} toggle={() => setOpen(!open)} />} sidebar={sidebar} isContentFilled mainContainerId="main"
      skipToContent={<SkipToContent href="#main">Skip to content</SkipToContent>}>
      <Outlet />
      <Toasts />
    </Page>
  );
}

function Head({ name, role, open, toggle }: { name: string; role: string; open: boolean; toggle: () => void }) {
  usePreferences();
  const dark = isDark();
  const turn = dark ? 'Use the light theme' : 'Use the dark theme';
  return (
    <Masthead>
      <MastheadMain>
        <MastheadToggle>
          <PageToggleButton variant="plain" aria-label="Places" isSidebarOpen={open} onSidebarToggle={toggle}><BarsIcon /></PageToggleButton>
        </MastheadToggle>
        <MastheadBrand>
          <MastheadLogo component={(props) => <Link {...props} to="/overview" />}>
            <Brand src="/favicon.svg" alt="OpenMigrate" heights={{ default: '32px' }} /> <span className="om-brand">OpenMigrate</span>
          </MastheadLogo>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <Toolbar isStatic>
          <ToolbarContent>
            <ToolbarGroup align={{ default: 'alignEnd' }} gap={{ default: 'gapMd' }}>
              <ToolbarItem><Live /></ToolbarItem>
              <ToolbarItem>
                <Tooltip content={turn} aria="none">
                  <Button variant="plain" aria-label={turn} icon={dark ? <SunIcon /> : <MoonIcon />} onClick={() => prefer({ theme: dark ? 'light' : 'dark' })} />
                </Tooltip>
              </ToolbarItem>
              <ToolbarItem className="om-who"><Name text={name} most={24} /> ({role})</ToolbarItem>
              <ToolbarItem><Button variant="link" onClick={() => void signOut().catch((e: unknown) => failed('You were not signed out', e))}>Sign out</Button></ToolbarItem>
            </ToolbarGroup>
          </ToolbarContent>
        </Toolbar>
      </MastheadContent>
    </Masthead>
  );
}

function Live() {
  const liveness = useLiveness();
  const lost = liveness === 'lost';
  return (
    <span role="status">
      <Label isCompact status={liveness === 'live' ? 'success' : lost ? 'warning' : undefined} color={liveness === 'connecting' ? 'grey' : undefined}>
        {liveness === 'live' ? 'Live' : lost ? 'Reconnecting' : 'Connecting'}
      </Label>
    </span>
  );
}
