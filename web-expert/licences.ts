// A build step that writes licences.txt: the licence of every package whose code or font is in the pages.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Plugin } from 'vite';

export function licences(): Plugin {
  const roots = new Set<string>();
  return {
    name: 'lotse-licences',
    apply: 'build',
    generateBundle(_options, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === 'chunk') for (const id of Object.keys(chunk.modules)) addRoot(roots, id);
        else for (const name of chunk.originalFileNames) addRoot(roots, join(process.cwd(), name));
      }
      const parts = [...roots].sort().map(describe);
      this.emitFile({ type: 'asset', fileName: 'licences.txt', source: parts.join(`\n\n${'-'.repeat(72)}\n\n`) });
    },
  };
}

function addRoot(roots: Set<string>, id: string): void {
  const file = id.replace(/^\0/, '').split('?')[0]!;
  if (!file.includes('node_modules/')) return;
  for (let at = dirname(file); at.includes('node_modules/'); at = dirname(at)) {
    const manifest = join(at, 'package.json');
    if (existsSync(manifest) && (JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string }).name) {
      roots.add(at);
      return;
    }
  }
}

function describe(root: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, string>;
  const file = readdirSync(root).find((f) => /^(licen[sc]e|ofl)/i.test(f));
  const text = file ? readFileSync(join(root, file), 'utf8').trim() : '';
  return `${name} ${version} (${license ?? 'see below'})\n\n${text}`;
}
