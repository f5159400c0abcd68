import { Chart, element } from "./charts.js";

const byId = (id) => document.getElementById(id);
const samples = [];
let charts = null;

const number = (value) => {
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(size >= 1e10 ? 0 : 1)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 0 : 1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)} k`;
  return size >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
};
const bits = (value) => (value < 1e4 ? `${value.toFixed(0)} bit/s` : `${number(value)}bit/s`);
const bytes = (value) => (value < 1e4 ? `${value.toFixed(0)} B` : `${number(value)}B`);
const percent = (value) => `${(100 * value).toFixed(0)} %`;
const millis = (us) => (us >= 1e6 ? `${(us / 1e6).toFixed(1)} s` : us >= 1e4 ? `${(us / 1e3).toFixed(0)} ms` : us >= 1e3 ? `${(us / 1e3).toFixed(1)} ms` : `${us.toFixed(0)} µs`);

function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, length] = units.find(([, unit]) => seconds >= unit) ?? units[3];
  const count = Math.floor(seconds / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function begin(view) {
  const parent = byId("charts");
  const make = (options) => new Chart(parent, options);
  charts = {
    throughput: make({ title: "Throughput", note: "UDP payload, all shards", names: ["in", "out"], format: bits, least: 1000 }),
    delay: make({ title: "Time in the relay", note: "From an object's arrival to its hand-over to the kernel; half of them (dashed) and 99 of 100 stay no longer", names: [], format: millis, paired: true, least: 1000 }),
    objects: make({ title: "Objects delivered", note: "Per second, to all subscribers", names: ["objects"], format: number, least: 10 }),
    dropped: make({ title: "Objects dropped", note: "Per second, by reason; the largest ones", names: [], format: number, stacked: true, least: 1 }),
    load: make({ title: "Load of the shards", note: "Share of the time that each is busy", names: view.shards.map((_, shard) => `shard ${shard}`), format: percent, least: 1 }),
    people: make({ title: "Sessions and rooms", note: "Now", names: ["sessions", "rooms"], format: number, least: 10 }),
    trips: make({ title: "Round trips to clients", note: "Half of them, and 99 of 100, take no longer", names: ["median", "99th percentile"], format: millis, least: 1000 }),
    paths: make({ title: "What clients' paths take", note: "Estimates: a tenth of the paths, and half, take no more", names: ["tenth", "median"], format: bits, least: 100000 }),
    late: make({ title: "Those who come late", note: "Subscriptions a second that were sent their track's newest group at once", names: ["late joiners"], format: number, least: 1 }),
  };
}

function draw(view) {
  const at = samples.map((sample) => sample.unix_ms);
  const span = Math.max(60000, Math.min(view.samples_max * view.interval_s * 1000, at.length ? at[at.length - 1] - at[0] : 0));
  const column = (read) => samples.map(read);
  charts.throughput.show(at, [column((s) => s.in_bits), column((s) => s.out_bits)], span);
  const classes = view.classes.map((name, place) => ({ name, half: column((s) => s.delay_p50_us[place]), most: column((s) => s.delay_p99_us[place]) }));
  const flowing = classes.filter((row, place) => place === 0 || row.most.some((value) => value > 0));
  charts.delay.names = flowing.flatMap((row) => [`${row.name} half`, "99 of 100"]);
  charts.delay.show(at, flowing.flatMap((row) => [row.half, row.most]), span);
  charts.objects.show(at, [column((s) => s.delivered)], span);
  charts.load.show(at, view.shards.map((_, shard) => column((s) => s.busy[shard] ?? 0)), span);
  charts.people.show(at, [column((s) => s.sessions), column((s) => s.rooms)], span);
  charts.trips.show(at, [0, 1].map((place) => column((s) => s.rtt_us[place])), span);
  charts.paths.show(at, [0, 1].map((place) => column((s) => s.path_bits[place])), span);
  charts.late.show(at, [column((s) => s.late_joiners)], span);
  const largest = view.drops
    .map((row, place) => ({ reason: row.reason, place, sum: samples.reduce((sum, s) => sum + s.dropped[place], 0) }))
    .filter((row) => row.sum > 0)
    .sort((one, other) => other.sum - one.sum)
    .slice(0, 6);
  charts.dropped.names = largest.length ? largest.map((row) => row.reason.replaceAll("_", " ")) : ["nothing"];
  charts.dropped.show(at, largest.length ? largest.map((row) => column((s) => s.dropped[row.place])) : [column(() => 0)], span);
}

function tiles(view) {
  const last = samples[samples.length - 1];
  const busiest = last ? Math.max(0, ...last.busy) : 0;
  const minute = samples.slice(-30);
  const worst = (read) => Math.max(0, ...minute.map(read));
  const dropped = view.drops.reduce((sum, row) => sum + row.last_minute, 0);
  const shown = [
    ["sessions", number(view.now.sessions)],
    ["people known", number(view.now.people)],
    ["rooms", number(view.now.rooms)],
    ["members in rooms", number(view.now.members)],
    ["ringing", number(view.now.rings)],
    ["subscriptions", number(view.now.subscriptions)],
    ["delivered a second", number(last?.delivered ?? 0)],
    ["out", bits(last?.out_bits ?? 0)],
    ["audio p99, last minute", millis(worst((s) => s.delay_p99_us[0]))],
    ["longest wait, last minute", millis(worst((s) => s.queue_oldest_us))],
    ["dropped, last minute", number(dropped)],
    ["busiest shard", percent(busiest)],
    ["longest round trip, p99", millis(worst((s) => s.rtt_us[1]))],
    ["newest groups kept", bytes(last?.cached_bytes ?? 0)],
  ];
  byId("tiles").replaceChildren(...shown.map(([name, value]) => element("div", { class: "tile" }, element("b", {}, value), element("span", { class: "quiet" }, name))));
}

function warnings(view) {
  const shown = view.warnings.map((warning) =>
    element("div", { class: `warning ${warning.level}` }, element("strong", {}, warning.text), `${warning.advice} `,
      element("span", { class: "quiet" }, `docs/OPERATING.md, ${warning.alert}`)));
  if (shown.length === 0) shown.push(element("div", { class: "warning well" }, element("strong", {}, "All is well."), "Nothing in the last minute that you would want to know."));
  byId("warnings").replaceChildren(...shown);
}

function table(id, rows, empty) {
  const body = byId(id).querySelector("tbody");
  const columns = byId(id).querySelectorAll("th").length;
  const line = (cells, idle) => element("tr", idle ? { class: "idle" } : {}, ...cells.map((cell, place) => element("td", place ? { class: "number" } : {}, cell)));
  body.replaceChildren(...rows.map(({ cells, idle }) => line(cells, idle)));
  if (rows.length === 0) body.append(element("tr", {}, element("td", { class: "none", colspan: columns }, empty)));
}

function show(view) {
  if (!charts) begin(view);
  const state = byId("state");
  state.textContent = view.draining ? "draining" : "ready";
  state.className = view.draining ? "pill" : "pill ready";
  byId("about").textContent = `version ${view.version} · up ${duration(view.uptime_s)} · ${view.shards.length} shard${view.shards.length === 1 ? "" : "s"} · ${number(view.now.connections)} connections`;
  warnings(view);
  tiles(view);
  draw(view);
  const drops = view.drops.filter((row) => row.total > 0).sort((one, other) => other.last_minute - one.last_minute || other.total - one.total);
  table("drops", drops.map((row) => ({ cells: [`${row.reason.replaceAll("_", " ")}: ${row.sentence}`, number(row.last_minute), number(row.total)], idle: !row.last_minute })), "Nothing was dropped.");
  table("limits", view.limits.map((row) => ({ cells: [row.name, number(row.last_minute), number(row.total)], idle: !row.last_minute })), "None has bitten.");
  table("closed", view.closed.map((row) => ({ cells: [row.name, number(row.total)] })), "None has ended.");
}

async function look() {
  try {
    const after = samples.length ? `?after=${samples[samples.length - 1].number}` : "";
    const answer = await fetch(`dashboard.json${after}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the relay answered ${answer.status}`);
    const view = await answer.json();
    // A relay that was started anew counts from zero again.
    if (samples.length && view.uptime_s < look.uptime_s) samples.length = 0;
    look.uptime_s = view.uptime_s;
    samples.push(...view.samples);
    if (samples.length > view.samples_max) samples.splice(0, samples.length - view.samples_max);
    show(view);
    setTimeout(look, view.interval_s * 1000);
  } catch (error) {
    const state = byId("state");
    state.textContent = "no answer";
    state.className = "pill lost";
    byId("about").textContent = String(error.message ?? error);
    setTimeout(look, 2000);
  }
}

async function sees() {
  const rows = await (await fetch("what-i-see.json")).json();
  byId("sees").querySelector("tbody").replaceChildren(...rows.map((row) =>
    element("tr", {}, ...[row.field, row.sees, row.why, row.kept].map((cell) => element("td", {}, cell)))));
}

byId("sees").addEventListener("toggle", sees, { once: true });
look();
