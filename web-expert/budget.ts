// A build step that fails when the live page's first load grows above what was promised.
//
// Counted is what a browser asks for until the live page stands: the document, its scripts and styles with all they import
// at once, the Latin font, the sign, the worker of the last 20 seconds. Not what a click loads later (replay, keys, devices).

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

/** 200 kB after gzip: four seconds at 400 kbit/s, on the worst line an expert works from. */
const LIMIT = 200_000;
/** Fetched by the page itself, not imported. */
const ALSO = [/^assets\/inter-latin-wght-normal-.*\.woff2$/, /^assets\/history\.worker-.*\.js$/];

export function budget(): Plugin {
  return {
    name: 'lotse-budget',
    apply: 'build',
    enforce: 'post',
    writeBundle(_options, bundle) {
      const wanted = new Set<string>(['index.html']);
      const add = (name: string): void => {
        const chunk = bundle[name];
        if (!chunk || wanted.has(name)) return;
        wanted.add(name);
        if (chunk.type !== 'chunk') return;
        chunk.imports.forEach(add);
        chunk.viteMetadata?.importedCss.forEach(add);
      };
      for (const [name, chunk] of Object.entries(bundle)) if ((chunk.type === 'chunk' && chunk.isEntry) || ALSO.some((a) => a.test(name))) add(name);
      const sizes = [...wanted].map((name) => {
        const file = bundle[name];
        const bytes = !file ? Buffer.alloc(0) : Buffer.from(file.type === 'chunk' ? file.code : file.source);
        // Fonts are packed already.
        return { name, size: name.endsWith('.woff2') ? bytes.length : gzipSync(bytes, { level: 9 }).length };
      });
      sizes.push({ name: 'lotse.svg', size: gzipSync(readFileSync('public/lotse.svg')).length });
      for (const wants of ['index.html', 'inter-latin', 'history.worker', '.css', 'index-']) {
        if (!sizes.some((s) => s.name.includes(wants) && s.size > 0)) this.error(`first load: ${wants} was not found, so the sum is not true; see budget.ts`);
      }
      const sum = sizes.reduce((n, s) => n + s.size, 0);
      const list = sizes.map((s) => `${s.name} ${(s.size / 1000).toFixed(1)}`).join(', ');
      const told = `first load of the live page: ${(sum / 1000).toFixed(1)} kB of ${LIMIT / 1000} (gzip): ${list}`;
      if (sum > LIMIT) this.error(`${told}. Load later what the first look does not need, with import().`);
      this.info(told);
    },
  };
}
