// What the whole page shares: who is logged in, the live link, short notices.
//
// Never: knows a page. Elsewhere: addresses (ui/router.svelte.ts), words (strings).

import { api, HttpError, type Me } from './link/http';
import { LiveLink } from './link/live.svelte';
import { go } from './ui/router.svelte';

/** Notices stay this long. */
const NOTICE_MS = 6_000;

export interface Notice {
  id: number;
  text: string;
  tone: 'plain' | 'bad';
}

class App {
  /** undefined: not asked yet; null: nobody is logged in. */
  me: Me | null | undefined = $state.raw(undefined);
  /** The server could not be asked who we are. */
  unreachable = $state(false);
  notices: Notice[] = $state([]);
  readonly link = new LiveLink();
  #next = 1;

  /** Asks the server who is logged in; connects the live link when somebody is. */
  async whoAmI(): Promise<void> {
    try {
      this.me = await api.me();
      this.unreachable = false;
      this.link.start();
    } catch (e) {
      if (e instanceof HttpError && (e.status === 401 || e.status === 403)) {
        this.me = null;
        this.unreachable = false;
      } else {
        this.unreachable = true;
      }
    }
  }

  loggedIn(me: Me): void {
    this.me = me;
    this.link.start();
  }

  /** `next`: where who logs in then wants to go. */
  async logout(next = ''): Promise<void> {
    this.link.stop();
    await api.logout().catch(() => {});
    this.me = null;
    go(next ? `/login?next=${encodeURIComponent(next)}` : '/login');
  }

  /** The server no longer knows this login. */
  expired(): void {
    this.link.stop();
    this.me = null;
  }

  say(text: string, tone: Notice['tone'] = 'plain'): void {
    const id = this.#next++;
    this.notices = [...this.notices.slice(-2), { id, text, tone }];
    setTimeout(() => (this.notices = this.notices.filter((n) => n.id !== id)), NOTICE_MS);
  }
}

export const app = new App();
