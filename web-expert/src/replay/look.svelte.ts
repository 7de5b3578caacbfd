// One look at a recorded case: the reason is written first, then the log is read, then media are granted.
//
// Owns: the `viewed` event of this look, grants and their renewal. Never: shows anything without a reason.

import { app } from '../app.svelte';
import { OpenCase } from '../link/case.svelte';
import { api } from '../link/http';
import type { Bytes } from '../protocol/bytes';
import { KIND } from '../protocol/kind';
import { Opener } from './opener';
import type { Piece } from './timeline';

/** A grant is renewed when it has less than this left; it lasts five minutes. */
const RENEW_MS = 45_000;

export class Look {
  readonly open: OpenCase;
  /** The event of this look; null until a reason was given. */
  event: string | null = $state(null);
  busy = $state(false);
  problem = $state('');
  #opener = new Opener();
  #grant: Promise<{ grant: string; expires_ms: number }> | null = null;

  constructor(readonly caseId: string) {
    this.open = new OpenCase(caseId, app.link, app.me?.name ?? '');
  }

  close(): void {
    this.#opener.close();
    this.open.close();
  }

  async start(reason: string): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    this.problem = '';
    try {
      const { id } = await this.open.commit({ kind: KIND.viewed, payload: { reason } });
      this.event = id;
    } catch (e) {
      this.problem = e instanceof Error ? e.message : String(e);
    } finally {
      this.busy = false;
    }
  }

  /** Writes the export into the log and gives the address of the bundle. */
  async bundle(reason: string): Promise<string> {
    const { id } = await this.open.commit({ kind: KIND.exported, payload: { reason } });
    const { grant } = await api.grant(this.caseId, id, 'export');
    return api.bundleUrl(this.caseId, grant);
  }

  /** Fetches, checks and opens one fragment. */
  load = async (piece: Piece): Promise<Bytes> => {
    const { digest, key } = piece.segment;
    const { grant } = await this.#granted();
    const sealed = await api.media(this.caseId, digest, grant);
    return this.#opener.open(digest, key!, sealed);
  };

  async #granted(): Promise<{ grant: string; expires_ms: number }> {
    const event = this.event;
    if (!event) throw new Error('no reason was given');
    const have = this.#grant ? await this.#grant.catch(() => null) : null;
    if (have && have.expires_ms - app.link.now_ms() > RENEW_MS) return have;
    this.#grant = api.grant(this.caseId, event, 'replay');
    return this.#grant;
  }
}
