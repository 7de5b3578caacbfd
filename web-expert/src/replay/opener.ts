// The worker that opens fragments, as a function.

import type { Bytes } from '../protocol/bytes';
import type { OpenReply } from './opener.worker';
import OpenerWorker from './opener.worker?worker';

/** The fragment is not what its digest in the log says. */
export class FragmentError extends Error {}

export class Opener {
  #worker = new OpenerWorker();
  #next = 1;
  #waiting = new Map<number, (r: OpenReply) => void>();

  constructor() {
    this.#worker.onmessage = (e: MessageEvent<OpenReply>) => {
      this.#waiting.get(e.data.n)?.(e.data);
      this.#waiting.delete(e.data.n);
    };
  }

  async open(digest: string, key: string, sealed: Bytes): Promise<Bytes> {
    const n = this.#next++;
    const reply = await new Promise<OpenReply>((resolve) => {
      this.#waiting.set(n, resolve);
      this.#worker.postMessage({ n, digest, key, sealed }, [sealed.buffer]);
    });
    if ('why' in reply) throw new FragmentError(reply.why);
    return reply.plain;
  }

  close(): void {
    this.#worker.terminate();
  }
}
