// What the board can do for the keys of the page.

export interface BoardActs {
  /** A mark of the current tool in the middle of the picture, for people without a pointing device. */
  placeInMiddle(): void;
  /** Moves the selected mark; false when none is. */
  move(dx: number, dy: number): boolean;
  /** Deletes the selected mark; false when none is. */
  remove(): boolean;
}
