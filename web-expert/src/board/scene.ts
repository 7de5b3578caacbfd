// The marks on one frozen picture as operations that are only ever added: add, erase, restore, change.
//
// Owns: what is visible and undo/redo. Never: forgets an operation.
// Elsewhere: making marks (tools.ts), showing them (Marks.svelte).

import type { Annotation } from '@bindings/payload';

/** A mark of the board: an annotation with an id of its own. */
export interface BoardMark {
  id: string;
  author: string;
  annotation: Annotation;
}

export type Op =
  | { op: 'add'; mark: BoardMark }
  | { op: 'erase'; id: string }
  | { op: 'restore'; id: string }
  /** Moved or reworded; the earlier form stays in the operations before. */
  | { op: 'change'; id: string; annotation: Annotation };

export interface Scene {
  ops: Op[];
  /** How many of one's own operations may be undone, newest last: pairs of what was done and what undoes it. */
  undo: { done: Op; back: Op }[];
  redo: { done: Op; back: Op }[];
}

export function newScene(): Scene {
  return { ops: [], undo: [], redo: [] };
}

/** The visible marks in drawing order. */
export function visible(ops: readonly Op[]): BoardMark[] {
  const marks = new Map<string, BoardMark & { gone: boolean }>();
  for (const op of ops) {
    if (op.op === 'add') {
      if (!marks.has(op.mark.id)) marks.set(op.mark.id, { ...op.mark, gone: false });
      continue;
    }
    const mark = marks.get(op.id);
    if (!mark) continue;
    if (op.op === 'change') mark.annotation = op.annotation;
    else mark.gone = op.op === 'erase';
  }
  return [...marks.values()].filter((m) => !m.gone).map(({ id, author, annotation }) => ({ id, author, annotation }));
}

export function add(scene: Scene, mark: BoardMark): Scene {
  return act(scene, { op: 'add', mark }, { op: 'erase', id: mark.id });
}

export function erase(scene: Scene, id: string): Scene {
  if (!visible(scene.ops).some((m) => m.id === id)) return scene;
  return act(scene, { op: 'erase', id }, { op: 'restore', id });
}

export function change(scene: Scene, id: string, annotation: Annotation): Scene {
  const before = visible(scene.ops).find((m) => m.id === id);
  if (!before) return scene;
  return act(scene, { op: 'change', id, annotation }, { op: 'change', id, annotation: before.annotation });
}

export function undo(scene: Scene): Scene {
  const last = scene.undo.at(-1);
  if (!last) return scene;
  return {
    ops: [...scene.ops, last.back],
    undo: scene.undo.slice(0, -1),
    redo: [...scene.redo, last],
  };
}

export function redo(scene: Scene): Scene {
  const last = scene.redo.at(-1);
  if (!last) return scene;
  // A mark is added once; bringing it back is a restore.
  const again: Op = last.done.op === 'add' ? { op: 'restore', id: last.done.mark.id } : last.done;
  return {
    ops: [...scene.ops, again],
    undo: [...scene.undo, last],
    redo: scene.redo.slice(0, -1),
  };
}

/** The number the next step marker gets. */
export function nextStep(ops: readonly Op[]): number {
  const used = visible(ops).map((m) => (m.annotation.shape === 'step' ? m.annotation.n : 0));
  return Math.max(0, ...used) + 1;
}

function act(scene: Scene, done: Op, back: Op): Scene {
  return { ops: [...scene.ops, done], undo: [...scene.undo, { done, back }], redo: [] };
}
