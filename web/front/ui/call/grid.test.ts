import assert from "node:assert/strict";
import { test } from "node:test";

import { best_grid, capacity, choose_shown, GAP_PX, grid_places, lay_out, TILE_MIN, type Place, type Size } from "./grid.ts";

const WINDOWS: readonly Size[] = [
  { width: 304, height: 440 },
  { width: 440, height: 250 },
  { width: 624, height: 280 },
  { width: 900, height: 668 },
  { width: 1264, height: 668 },
  { width: 2544, height: 1310 },
  { width: 3440, height: 400 },
  { width: 400, height: 2000 },
];

function assert_apart_and_inside(places: readonly Place[], stage: Size, what: string): void {
  places.forEach((place, at) => {
    assert.ok(place.x >= 0 && place.y >= 0, `${what}: tile ${at} begins outside`);
    assert.ok(place.x + place.width <= stage.width + 1 && place.y + place.height <= stage.height + 1, `${what}: tile ${at} ends outside`);
    for (const other of places.slice(at + 1)) {
      const apart = place.x + place.width <= other.x || other.x + other.width <= place.x || place.y + place.height <= other.y || other.y + other.height <= place.y;
      assert.ok(apart, `${what}: tile ${at} lies over another`);
    }
  });
}

test("tiles of one to fifty people lie apart and inside any window, and are of one size", () => {
  for (const stage of WINDOWS) {
    for (let count = 1; count <= 50; count++) {
      const places = grid_places(count, stage);
      const what = `${count} in ${stage.width}x${stage.height}`;
      assert.equal(places.length, count);
      assert_apart_and_inside(places, stage, what);
      assert.equal(new Set(places.map(({ width, height }) => `${width} ${height}`)).size, 1, what);
    }
  }
});

/** The width of the largest 3:2 picture in the best of all grids, worked out by brute force. */
function widest_picture(count: number, stage: Size): number {
  let best = 0;
  for (let columns = 1; columns <= count; columns++) {
    for (let rows = 1; rows <= count; rows++) {
      if (columns * rows < count) continue;
      const width = (stage.width - GAP_PX * (columns - 1)) / columns;
      const height = (stage.height - GAP_PX * (rows - 1)) / rows;
      best = Math.max(best, Math.min(width, height * 1.5));
    }
  }
  return best;
}

test("no other grid shows larger pictures", () => {
  for (const stage of WINDOWS) {
    for (let count = 1; count <= 50; count++) {
      const { tile } = best_grid(count, stage);
      const picture = Math.min(tile.width, tile.height * 1.5);
      assert.ok(picture >= widest_picture(count, stage) - 0.5, `${count} in ${stage.width}x${stage.height}: ${picture} of ${widest_picture(count, stage)}`);
    }
  }
});

test("a row that is not full stands in the middle", () => {
  const places = grid_places(5, { width: 1264, height: 668 });
  const last = places.slice(3);
  const left = Math.min(...last.map(({ x }) => x));
  const right = 1264 - Math.max(...last.map(({ x, width }) => x + width));
  assert.ok(Math.abs(left - right) <= 2, `${left} and ${right}`);
});

test("more people never make tiles larger", () => {
  for (const stage of WINDOWS) {
    let before = Infinity;
    for (let count = 1; count <= 50; count++) {
      const { tile } = best_grid(count, stage);
      const picture = Math.min(tile.width, tile.height * 1.5);
      assert.ok(picture <= before + 0.5);
      before = picture;
    }
  }
});

test("tiles are left out before they are too small for a name", () => {
  for (const stage of WINDOWS) {
    const shown = capacity(50, stage);
    const { tile } = best_grid(shown, stage);
    assert.ok(tile.width >= TILE_MIN.width && tile.height >= TILE_MIN.height, `${stage.width}x${stage.height}: ${shown}`);
  }
  assert.equal(capacity(50, { width: 2544, height: 1310 }), 50);
});

test("a window without room has no tiles and no numbers that are none", () => {
  assert.deepEqual(lay_out({ tiles: 4, large: false, corner: false }, { width: 0, height: 300 }), { places: [] });
  for (const large of [true, false]) {
    const { places } = lay_out({ tiles: 4, large, corner: false }, { width: 40, height: 30 });
    for (const place of places) for (const number of Object.values(place)) assert.ok(Number.isFinite(number));
  }
});

test("beside something large all people stand in a strip that takes little, if they fit", () => {
  for (const stage of WINDOWS) {
    for (let count = 1; count <= 50; count++) {
      const { large, places } = lay_out({ tiles: count, large: true, corner: false }, stage);
      assert.ok(large !== undefined);
      const what = `${count} beside a screen in ${stage.width}x${stage.height}`;
      assert_apart_and_inside([large, ...places], stage, what);
      assert.ok(places.length >= 1, what);
      if (stage.width >= 900 && stage.height >= 400) assert.ok(large.width * large.height > stage.width * stage.height * 0.6, what);
    }
  }
  assert.equal(lay_out({ tiles: 6, large: true, corner: false }, { width: 1264, height: 668 }).places.length, 6);
});

test("of two, the other fills the stage and we are in a corner; alone, we are in the corner", () => {
  const stage = { width: 1264, height: 668 };
  const two = lay_out({ tiles: 2, large: false, corner: true }, stage);
  assert.deepEqual(two.places, [{ x: 0, y: 0, ...stage }]);
  assert.ok(two.corner !== undefined && two.corner.width < stage.width / 4);
  assert.deepEqual(lay_out({ tiles: 1, large: false, corner: true }, stage).places, []);
});

const keys = (count: number): string[] => Array.from({ length: count }, (_, at) => `p${at}`);

test("whoever speaks out of sight takes the place of whoever was quiet for longest", () => {
  const shown = choose_shown(keys(10), 4, keys(4), new Set(["p8"]), new Map([["p3", 7], ["p2", 1], ["p1", 5]]));
  assert.deepEqual(shown, ["p0", "p1", "p8", "p3"]);
});

test("nobody changes places when somebody speaks who is in sight", () => {
  assert.deepEqual(choose_shown(keys(10), 4, ["p0", "p7", "p2", "p3"], new Set(["p7"]), new Map()), ["p0", "p7", "p2", "p3"]);
});

test("whoever speaks keeps their place while others begin to", () => {
  const shown = choose_shown(keys(10), 3, ["p0", "p1", "p2"], new Set(["p1", "p2", "p9"]), new Map());
  assert.deepEqual(shown, ["p0", "p1", "p2"]);
});

test("the only place goes to whoever speaks", () => {
  assert.deepEqual(choose_shown(keys(5), 1, ["p0"], new Set(["p4"]), new Map()), ["p4"]);
});

test("places of those who left are filled in order", () => {
  assert.deepEqual(choose_shown(["p0", "p2", "p3", "p4", "p5"], 3, ["p0", "p1", "p2"], new Set(), new Map()), ["p0", "p2", "p3"]);
});
