// The words of a technician's page in the language of the page; they come with it, an expert never loads them.

import { language } from '../index.svelte';
import { de } from './de';
import { en } from './en';

/** Read inside markup so that it follows the switch. */
export function fieldWords(): typeof de {
  return { de, en }[language()];
}
