import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, redirect } from '@tanstack/react-router';
import { ProblemAlert } from '../parts/ProblemAlert';
import { Nothing } from '../parts/Nothing';
import { Screen } from '../parts/Screen';
import { Waiting } from '../parts/Loaded';
import { Shell } from './Shell';
import { machineSearch } from './machinesearch';

const root = createRootRoute({ component: Shell, notFoundComponent: Lost });

function at<P extends string>(path: P, component: Parameters<typeof createRoute>[0]['component']) {
  return createRoute({ getParentRoute: () => root, path, component });
}

const home = createRoute({
  getParentRoute: () => root,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/overview', replace: true });
  },
});

export const machinesRoute = createRoute({
  getParentRoute: () => root,
  path: '/machines',
  validateSearch: machineSearch,
  component: lazyRouteComponent(() => import('../screens/Machines'), 'Machines'),
});

const routes = [
  home,
  at('/overview', lazyRouteComponent(() => import('../screens/Overview'), 'Overview')),
  machinesRoute,
  at('/add-machine', lazyRouteComponent(() => import('../screens/AddMachine'), 'AddMachine')),
  at('/machines/$machine', lazyRouteComponent(() => import('../screens/Machine'), 'Machine')),
  at('/machines/$machine/restpoints', lazyRouteComponent(() => import('../screens/Restpoints'), 'Restpoints')),
  at('/machines/$machine/launch-template', lazyRouteComponent(() => import('../screens/LaunchTemplate'), 'LaunchTemplateScreen')),
  at('/restpoints/$restpoint', lazyRouteComponent(() => import('../screens/Restpoint'), 'Restpoint')),
  at('/launches', lazyRouteComponent(() => import('../screens/Launches'), 'Launches')),
  at('/launches/$launch', lazyRouteComponent(() => import('../screens/Launch'), 'Launch')),
  at('/providers', lazyRouteComponent(() => import('../screens/Providers'), 'Providers')),
  at('/nodes', lazyRouteComponent(() => import('../screens/Nodes'), 'Nodes')),
  at('/access', lazyRouteComponent(() => import('../screens/Access'), 'Access')),
  at('/settings', lazyRouteComponent(() => import('../screens/Settings'), 'Settings')),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  defaultPendingComponent: Waiting,
  defaultErrorComponent: ({ error, reset }) => (
    <Screen title="This page failed">
      <ProblemAlert error={error} retry={reset} />
    </Screen>
  ),
  defaultPreload: 'intent',
  scrollRestoration: true,
});

function Lost() {
  return (
    <Screen title="There is no such page">
      <Nothing title="Nothing is at this address" action={<Link to="/overview">Go to the overview</Link>}>
        It may have been removed, or the address is mistyped.
      </Nothing>
    </Screen>
  );
}

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
