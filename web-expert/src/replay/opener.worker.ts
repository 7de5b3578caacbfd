// Opens sealed media fragments off the main thread: digest first, then chunk by chunk.

import type { Bytes } from '../protocol/bytes';
import { ItemError, openChecked } from '../protocol/item';

export interface OpenAsk {
  n: number;
  digest: string;
  key: string;
  sealed: Bytes;
}
export type OpenReply = { n: number; plain: Bytes } | { n: number; why: 'digest' | 'does_not_open' | 'truncated' | 'wrong_key' };

const scope = self as unknown as { onmessage: (e: MessageEvent<OpenAsk>) => void; postMessage(m: OpenReply, t?: Transferable[]): void };

scope.onmessage = async (e) => {
  const { n, digest, key, sealed } = e.data;
  try {
    const plain = await openChecked(digest, key, sealed);
    scope.postMessage({ n, plain }, [plain.buffer]);
  } catch (error) {
    scope.postMessage({ n, why: error instanceof ItemError ? error.problem.why : 'does_not_open' });
  }
};
