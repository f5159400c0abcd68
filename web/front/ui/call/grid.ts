/**
 * Where tiles stand: numbers in, numbers out. A tile is as large as it can be, all of a kind are of one size, and what is
 * seen of a camera's picture counts, not the area that a tile covers.
 */

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Place extends Size {
  readonly x: number;
  readonly y: number;
}

/** What there is to be placed. */
export interface Wanted {
  /** People's tiles that could be shown, ourselves too. */
  readonly tiles: number;
  /** One more tile, of its own kind, that is to be large. */
  readonly large: boolean;
  /** Whether one of the tiles is ourselves, alone or beside one other: small, in a corner. */
  readonly corner: boolean;
}

export interface Layout {
  readonly large?: Place;
  /** For the first tiles, as many as fit. If there are fewer than wanted, one more place follows, for "and so many more". */
  readonly places: readonly Place[];
  readonly corner?: Place;
}

export const GAP_PX = 8;
/** No tile is narrower or flatter than this while there are others that can be left out: a name must be readable. */
export const TILE_MIN: Size = { width: 92, height: 76 };
/** Cameras are 16:9 or 4:3, those of phones stand upright. Beyond this a tile would show a strip of somebody. */
const ASPECT_MIN = 4 / 5;
const ASPECT_MAX = 16 / 9;
/** A picture that stands for all cameras: between 4:3 and 16:9. */
const ASPECT_OF_PICTURES = 3 / 2;
/** Tiles beside something large are of this shape, and take at most this share of the stage. */
const STRIP_ASPECT = 16 / 10;
const STRIP_SHARE = 0.19;
/** So narrow they become before some are left out, and this wide they are then. */
const STRIP_WIDTH_MIN_PX = 108;
const STRIP_WIDTH_PX = 150;

/** The shape of a tile in a cell of this size. */
function tile_in(cell: Size): Size {
  return {
    width: Math.min(cell.width, cell.height * ASPECT_MAX),
    height: Math.min(cell.height, cell.width / ASPECT_MIN),
  };
}

/** How large a usual picture is in a tile: its width. */
function worth(tile: Size): number {
  return Math.min(tile.width, tile.height * ASPECT_OF_PICTURES);
}

/** Columns, rows and the size of tiles that show `count` pictures as large as possible. */
export function best_grid(count: number, area: Size): { readonly columns: number; readonly rows: number; readonly tile: Size } {
  let best = { columns: 1, rows: Math.max(1, count), tile: { width: 0, height: 0 } };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cell = {
      width: (area.width - GAP_PX * (columns - 1)) / columns,
      height: (area.height - GAP_PX * (rows - 1)) / rows,
    };
    if (cell.width <= 0 || cell.height <= 0) continue;
    const tile = tile_in(cell);
    const gain = worth(tile) - worth(best.tile);
    const same_but_wider = Math.abs(gain) < 0.5 && tile.width * tile.height > best.tile.width * best.tile.height;
    if (gain >= 0.5 || same_but_wider) best = { columns, rows, tile };
  }
  return best;
}

/** The most tiles, at most `count`, of which none is too small. At least one. */
export function capacity(count: number, area: Size): number {
  for (let shown = count; shown > 1; shown--) {
    const { tile } = best_grid(shown, area);
    if (tile.width >= TILE_MIN.width && tile.height >= TILE_MIN.height) return shown;
  }
  return Math.min(1, count);
}

/** Places of `count` tiles, row by row, all rows in the middle. */
export function grid_places(count: number, area: Size): Place[] {
  if (count === 0) return [];
  const { columns, rows, tile } = best_grid(count, area);
  const top = (area.height - rows * tile.height - (rows - 1) * GAP_PX) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const in_row = row === rows - 1 ? count - row * columns : columns;
    const left = (area.width - in_row * tile.width - (in_row - 1) * GAP_PX) / 2;
    return whole({
      x: left + (index % columns) * (tile.width + GAP_PX),
      y: top + row * (tile.height + GAP_PX),
      width: tile.width,
      height: tile.height,
    });
  });
}

/** Whole pixels: half ones would blur every name. */
function whole(place: Place): Place {
  return { x: Math.round(place.x), y: Math.round(place.y), width: Math.floor(place.width), height: Math.floor(place.height) };
}

/** Where everything stands in a stage of this size. */
export function lay_out(wanted: Wanted, stage: Size): Layout {
  if (stage.width <= 0 || stage.height <= 0) return { places: [] };
  if (wanted.large) return beside_large(wanted.tiles, stage);
  if (wanted.corner && wanted.tiles <= 2) {
    return { places: wanted.tiles === 2 ? [whole({ x: 0, y: 0, ...stage })] : [], corner: corner_place(stage) };
  }
  const shown = capacity(wanted.tiles, stage);
  return { places: grid_places(shown, stage) };
}

function corner_place(stage: Size): Place {
  const upright = stage.height > stage.width;
  const width = Math.round(Math.min(260, Math.max(88, stage.width * 0.22)));
  const height = Math.round(upright ? (width * 4) / 3 : (width * 3) / 4);
  const margin = 12;
  return { x: stage.width - width - margin, y: stage.height - height - margin, width, height };
}

/** Something large, and a strip of people: at its side where there is more width than height, below it otherwise. */
function beside_large(tiles: number, stage: Size): Layout {
  if (tiles === 0) return { large: whole({ x: 0, y: 0, ...stage }), places: [] };
  const at_side = stage.width > stage.height * 1.15;
  const along = at_side ? stage.height : stage.width;
  const widest = at_side ? stage.width * STRIP_SHARE : Math.min(stage.height * STRIP_SHARE * STRIP_ASPECT, stage.width * 0.4);
  // So wide that all of them fit, if they are not too small then.
  const each = (along + GAP_PX) / tiles - GAP_PX;
  const for_all = at_side ? each * STRIP_ASPECT : each;
  const tile = strip_tile(Math.min(widest, for_all < STRIP_WIDTH_MIN_PX ? Math.min(STRIP_WIDTH_PX, along / 3 - GAP_PX) : for_all));
  const length = at_side ? tile.height : tile.width;
  const shown = Math.max(1, Math.min(tiles, Math.floor((along + GAP_PX) / (length + GAP_PX) + 0.001)));
  const start = Math.max(0, (along - shown * length - (shown - 1) * GAP_PX) / 2);
  const places = Array.from({ length: shown }, (_, index) => {
    const at = start + index * (length + GAP_PX);
    return whole(at_side ? { x: stage.width - tile.width, y: at, ...tile } : { x: at, y: stage.height - tile.height, ...tile });
  });
  const large = at_side
    ? { x: 0, y: 0, width: stage.width - tile.width - GAP_PX, height: stage.height }
    : { x: 0, y: 0, width: stage.width, height: stage.height - tile.height - GAP_PX };
  return { large: whole({ ...large, width: Math.max(0, large.width), height: Math.max(0, large.height) }), places };
}

function strip_tile(width: number): Size {
  const bounded = Math.max(TILE_MIN.width, Math.min(280, width));
  return { width: bounded, height: bounded / STRIP_ASPECT };
}

/**
 * Who of `all` is shown where `room` are: those who were shown stay where they were, and somebody who must be seen takes
 * the place of whoever has not had to be for longest. So nobody jumps, and no speaker stays out of sight.
 */
export function choose_shown(
  all: readonly string[],
  room: number,
  before: readonly string[],
  must_be_seen: ReadonlySet<string>,
  last_seen_need: ReadonlyMap<string, number>,
): string[] {
  if (all.length <= room) return [...all];
  const there = new Set(all);
  const shown = before.filter((key) => there.has(key)).slice(0, room);
  const is_shown = new Set(shown);
  for (const key of all) {
    if (shown.length >= room) break;
    if (!is_shown.has(key)) {
      shown.push(key);
      is_shown.add(key);
    }
  }
  for (const key of all) {
    if (!must_be_seen.has(key) || is_shown.has(key)) continue;
    const at = longest_not_needed(shown, must_be_seen, last_seen_need);
    if (at === undefined) break;
    is_shown.delete(shown[at] ?? "");
    shown[at] = key;
    is_shown.add(key);
  }
  return shown;
}

/** Never the first, which is ourselves, unless there is no other. */
function longest_not_needed(shown: readonly string[], needed: ReadonlySet<string>, last_need: ReadonlyMap<string, number>): number | undefined {
  let found: number | undefined;
  let since = Infinity;
  for (let at = shown.length - 1; at >= Math.min(1, shown.length - 1); at--) {
    const key = shown[at] ?? "";
    const need = last_need.get(key) ?? -1;
    if (!needed.has(key) && need < since) {
      found = at;
      since = need;
    }
  }
  return found;
}
