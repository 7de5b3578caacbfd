// The pages that are loaded when they are wanted, each once.
//
// Owns: when. Asked for by the address at once, before anybody knows who is there: the answer to that takes as long as the way.

let deskPages: Promise<typeof import('./desk')> | null = null;
let fieldPage: Promise<typeof import('./field/Field.svelte')> | null = null;

export const desk = () => (deskPages ??= import('./desk').catch(again(() => (deskPages = null))));
export const field = () => (fieldPage ??= import('./field/Field.svelte').catch(again(() => (fieldPage = null))));

/** The way was gone: the next one asks anew. */
function again(forget: () => void): (e: unknown) => never {
  return (e) => {
    forget();
    throw e;
  };
}

/** Begins with what the address names. */
export function preload(path: string): void {
  (/^\/field\b/.test(path) ? field() : desk()).catch(() => {});
}
