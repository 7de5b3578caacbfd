/**
 * Takes one state of a page in two sizes, two looks and two languages, into tests/out/gallery, and gathers what can be measured on it.
 *
 * Never: judges beauty. Elsewhere: the walks (`gallery*.ts`), the rules (`checks.ts`).
 */
import { join } from 'node:path';

import type { Browser, Page } from '@playwright/test';

import { measured, violations } from './checks.ts';
import { logIn, newPage } from './people.ts';
import { type Programs, root } from './programs.ts';

export const out = join(root, 'tests/out/gallery');
export const only = (process.env['LOTSE_GALLERY'] ?? '').split(' ').filter((o) => o && o !== 'all');
const SIZES = { desk: { width: 1440, height: 900 }, phone: { width: 390, height: 844 }, wide: { width: 844, height: 390 } } as const;
export const LONG = { timeout: 60_000 };
export const found: string[] = [];

/** One state in its sizes, both looks and languages. `wide`: a phone held across. `again`: before each picture, for what passes by itself. */
export async function take(page: Page, name: string, fixed?: 'de' | 'en', sizes: (keyof typeof SIZES)[] = ['desk', 'phone'], again?: (language: 'de' | 'en') => Promise<unknown>): Promise<void> {
  if (only.length > 0 && !only.some((o) => name.startsWith(o))) return;
  const before = page.viewportSize() ?? SIZES.desk;
  for (const language of fixed ? [fixed] : (['de', 'en'] as const)) {
    if (!fixed) await speak(page, language);
    for (const size of sizes) {
      await page.setViewportSize(SIZES[size]);
      for (const theme of ['dark', 'light']) {
        await page.evaluate((t) => (document.documentElement.dataset['theme'] = t), theme);
        // Colours fade for 120 ms.
        await page.waitForTimeout(200);
        await again?.(language);
        const file = `${name}-${size}-${theme}-${language}`;
        await page.screenshot({ path: join(out, `${file}.png`), fullPage: size !== 'desk', scale: 'css' });
        if (fixed || language === 'de') found.push(...(await violations(page)).map((v) => `${file}: ${v}`));
      }
      found.push(...(await measured(page, size !== 'desk')).map((v) => `${name}-${size}-${language}: ${v}`));
    }
  }
  if (!fixed) await speak(page, 'en');
  await page.setViewportSize(before);
  console.log(name);
}

/** By the page's own switch; where a page has none, by what it keeps. */
async function speak(page: Page, language: 'de' | 'en'): Promise<void> {
  const switched = await page.evaluate((l) => {
    localStorage.setItem('lotse.language', l);
    const button = document.querySelectorAll<HTMLElement>('.pair button')[l === 'de' ? 0 : 1];
    button?.click();
    return button !== undefined || document.documentElement.lang === l;
  }, language);
  if (!switched) await page.reload();
}

export async function pageOf(browser: Browser, programs: Programs, user: string): Promise<Page> {
  const page = await newPage(browser, { permissions: ['microphone', 'clipboard-write'], reducedMotion: 'reduce' });
  page.on('pageerror', (e) => found.push(`${user}: ${e.message}`));
  if (user === '') await page.goto(programs.url);
  else await logIn(page, programs, user);
  return page;
}
