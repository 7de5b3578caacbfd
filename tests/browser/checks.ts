/**
 * What can be measured on a page as it stands: the rules of axe, words cut off, targets too small for a finger.
 *
 * Elsewhere: the states of the pages (`gallery.ts`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Page } from '@playwright/test';

const axe = readFileSync(join(import.meta.dirname, 'node_modules/axe-core/axe.min.js'), 'utf8');

/** What axe finds, one line per element. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    type Axe = { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }> };
    const { violations } = await (globalThis as unknown as { axe: Axe }).axe.run();
    return violations.flatMap((v) => v.nodes.map((n) => `axe ${v.id}: ${n.html.slice(0, 140)} ${(n.failureSummary ?? '').split('\n')[1]?.trim() ?? ''}`));
  });
}

/** What can be measured: pages wider than the window, words cut off, targets too small for a finger. */
export function measured(page: Page, touch: boolean): Promise<string[]> {
  return page.evaluate((touch) => {
    const list: string[] = [];
    const name = (e: Element) => `${e.tagName.toLowerCase()}.${[...e.classList].join('.')} "${(e.textContent ?? '').trim().slice(0, 40)}"`;
    if (document.documentElement.scrollWidth > innerWidth) list.push(`page is ${document.documentElement.scrollWidth} px wide`);
    const top = document.querySelector('[role=dialog]') ?? document.body;
    for (const e of top.querySelectorAll<HTMLElement>('*')) {
      const r = e.getBoundingClientRect();
      if (r.width < 2 || r.height < 2 || getComputedStyle(e).visibility === 'hidden' || e.closest('.sr, [aria-hidden=true]')) continue;
      const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent!.trim());
      if (own && getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1) list.push(`cut off: ${name(e)}`);
      if (r.right > innerWidth + 1 && !e.closest('ol.strip, .scroll, .rail, .stage, svg')) list.push(`beyond the edge: ${name(e)}`);
      // A link within a line of words is exempt, as WCAG 2.5.8 has it.
      const words = e.tagName === 'A' && getComputedStyle(e).display === 'inline';
      if (touch && !words && e.matches('button, a, select, input:not([type=file]), textarea, [role=slider]')) {
        const target = e.matches('input[type=radio], input[type=checkbox]') ? (e.closest('label') ?? e).getBoundingClientRect() : r;
        const link = e.matches('td a') ? e.closest('tr')!.getBoundingClientRect() : target;
        if (link.height < 43 || link.width < 43) list.push(`${Math.round(link.width)}x${Math.round(link.height)} px: ${name(e)} ${e.getAttribute('aria-label') ?? ''}`);
      }
    }
    return [...new Set(list)];
  }, touch);
}
