// A build step that fails when a first load grows above what was promised.
//
// Counted is what a browser asks for until the page stands: the document, its scripts and styles with all they import
// at once, the Latin font, the sign; for the live page the worker of the last 20 seconds. Not what a click loads later
// (replay, keys, devices).

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const FONT = /^assets\/inter-latin-wght-normal-.*\.woff2$/;
const WORKER = /^assets\/history\.worker-.*\.js$/;

interface First {
  page: string;
  /** The module that is imported when the page is wanted. */
  module: RegExp;
  /** Bytes after gzip. */
  limit: number;
  /** Fetched by the page itself, not imported. */
  also: RegExp[];
  /** Code that must not come along. */
  without: RegExp | null;
}

const LOADS: First[] = [
  // Four seconds at 400 kbit/s, on the worst line an expert works from.
  { page: 'live page', module: /\/src\/desk\.ts$/, limit: 200_000, also: [FONT, WORKER], without: null },
  // Three seconds there: a phone in a pump room.
  { page: 'field page', module: /\/src\/field\/Field\.svelte$/, limit: 150_000, also: [FONT], without: /\/src\/(board\/Board|live\/Live)\.svelte$/ },
];

export function budget(): Plugin {
  return {
    name: 'lotse-budget',
    apply: 'build',
    enforce: 'post',
    writeBundle(_options, bundle) {
      for (const first of LOADS) {
        const wanted = new Set<string>(['index.html']);
        const add = (name: string): void => {
          const chunk = bundle[name];
          if (!chunk || wanted.has(name)) return;
          wanted.add(name);
          if (chunk.type !== 'chunk') return;
          const stray = first.without && chunk.moduleIds.find((id) => first.without!.test(id));
          if (stray) this.error(`first load of the ${first.page}: ${name} brings ${stray} along`);
          chunk.imports.forEach(add);
          chunk.viteMetadata?.importedCss.forEach(add);
        };
        for (const [name, chunk] of Object.entries(bundle)) {
          const page = chunk.type === 'chunk' && (chunk.isEntry || (chunk.facadeModuleId !== null && first.module.test(chunk.facadeModuleId)));
          if (page || first.also.some((a) => a.test(name))) add(name);
        }
        const sizes = [...wanted].map((name) => {
          const file = bundle[name];
          const bytes = !file ? Buffer.alloc(0) : Buffer.from(file.type === 'chunk' ? file.code : file.source);
          // Fonts are packed already.
          return { name, size: name.endsWith('.woff2') ? bytes.length : gzipSync(bytes, { level: 9 }).length };
        });
        sizes.push({ name: 'lotse.svg', size: gzipSync(readFileSync('public/lotse.svg')).length });
        const facade = first.module.source.includes('desk') ? 'desk-' : 'Field-';
        const wants = ['index.html', 'inter-latin', '.css', 'index-', facade, ...(first.also.includes(WORKER) ? ['history.worker'] : [])];
        for (const want of wants) {
          if (!sizes.some((s) => s.name.includes(want) && s.size > 0)) this.error(`first load of the ${first.page}: ${want} was not found, so the sum is not true; see budget.ts`);
        }
        const sum = sizes.reduce((n, s) => n + s.size, 0);
        const list = sizes.map((s) => `${s.name} ${(s.size / 1000).toFixed(1)}`).join(', ');
        const told = `first load of the ${first.page}: ${(sum / 1000).toFixed(1)} kB of ${first.limit / 1000} (gzip): ${list}`;
        if (sum > first.limit) this.error(`${told}. Load later what the first look does not need, with import().`);
        this.info(told);
      }
    },
  };
}
