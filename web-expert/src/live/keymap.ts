// Keys of the live page as a table.

import type { Tool } from '../board/tools';

export const TOOL_KEYS: Record<Tool, string> = {
  select: 'v',
  laser: 'l',
  pen: 'p',
  arrow: 'a',
  rectangle: 'r',
  ellipse: 'o',
  text: 't',
  step: 'n',
  eraser: 'e',
};

const TOOL_OF = new Map(Object.entries(TOOL_KEYS).map(([tool, key]) => [key, tool as Tool]));

export function toolOf(key: string): Tool | undefined {
  return TOOL_OF.get(key.toLowerCase());
}
