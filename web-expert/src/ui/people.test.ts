// Everybody on screen together has a colour of their own.

import { expect, it } from 'vitest';
import { colourOf, initials } from './people';

it('gives eight people eight colours and keeps them', () => {
  const people = Array.from({ length: 8 }, (_, i) => `person-${i * 7919}`);
  const colours = people.map(colourOf);
  expect(new Set(colours).size).toBe(8);
  expect(people.map(colourOf)).toEqual(colours);
});

it.each([
  ['Mara Krüger', 'MK'],
  ['Anton', 'A'],
  ['  Jan van der Meer ', 'JM'],
  ['', '?'],
])('initials of "%s"', (name, letters) => expect(initials(name)).toBe(letters));
