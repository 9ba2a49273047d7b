import { useSession } from '../api/session';

const order = ['viewer', 'operator', 'admin'];

/**
 * useRole tells what the viewer may do, so that nothing is offered that would be refused. The master decides; this only keeps buttons away that lead nowhere.
 */
export function useRole(): { may: (role: 'viewer' | 'operator' | 'admin') => boolean } {
  const session = useSession();
  const role = session.state === 'in' ? session.who.role : '';
  return { may: (needed) => order.indexOf(role) >= order.indexOf(needed) };
}
