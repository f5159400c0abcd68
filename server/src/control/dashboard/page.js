import { Chart, clock, element } from "./charts.js";

const byId = (id) => document.getElementById(id);
const samples = [];
// What happened to the relay itself, also to those before it while this page looked on.
const marks = [];
let charts = null;
// Since when the relay does not answer.
let silent = null;

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

const words = (name) => name.replaceAll("_", " ");

function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, length] = units.find(([, unit]) => seconds >= unit) ?? units[3];
  const count = Math.floor(seconds / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

// A relay's own certificate has no end that anybody will see.
const ends = (seconds) => (seconds < 0 ? "has run out" : seconds > 50 * 365 * 86400 ? "no end" : `${duration(seconds)} left`);

function begin(view) {
  const of = (group) => (options) => new Chart(byId(`${group}-charts`), options);
  const [media, people, machine] = ["media", "people", "machine"].map(of);
  charts = {
    delay: media({ title: "Time in the relay", note: "From an object's arrival to its hand-over to the kernel: median (dashed), and p99: 99 of 100 stay no longer", names: [], format: millis, paired: true, least: 1000 }),
    dropped: media({ title: "Objects that did not arrive", note: "Per second, by reason; on purpose: not asked for, or left out so that the rest arrives", names: [], format: number, stacked: true, least: 1, hue: 4 }),
    throughput: media({ title: "Throughput", note: "UDP payload, all shards", names: ["in", "out"], format: bits, least: 1000 }),
    objects: media({ title: "Objects delivered", note: "Per second, to all subscribers", names: ["objects"], format: number, least: 10 }),
    paths: media({ title: "What clients' paths take", note: "Estimates: median, and p10: a tenth takes less", names: ["p10", "median"], format: bits, least: 100000 }),
    late: media({ title: "Those who come late", note: "Subscriptions a second that were sent their track's newest group at once", names: ["late joiners"], format: number, least: 1 }),
    people: people({ title: "Sessions and rooms", note: "At each moment", names: ["sessions", "rooms"], format: number, least: 10 }),
    rungs: people({ title: "Sessions that are sent less", note: "By rung of the ladder: their paths take no more", names: view.rungs.slice(1).map(words), format: number, stacked: true, least: 1 }),
    trips: people({ title: "Round trips to clients", note: "Median, and p99: 99 of 100 take no longer", names: ["median", "p99"], format: millis, least: 1000 }),
    load: machine({ title: "Load of the shards", note: "Share of the time that each is busy", names: view.shards.map((_, shard) => `shard ${shard}`), format: percent, least: 1 }),
    lag: machine({ title: "Lag of the shards", note: "How late they wake. High while they are not busy: the machine gives them no CPU", names: ["median", "p99"], format: millis, least: 1000 }),
    kernel: machine({ title: "Packets that the kernel dropped", note: "Per second: a receive buffer was full before the relay read it", names: ["packets"], format: number, least: 1 }),
    machine: machine({ title: "CPU of the process", note: "Cores that it takes, all threads", names: ["cores"], format: (value) => value.toFixed(2), least: 1 }),
    memory: machine({ title: "Memory of the process", note: "In RAM", names: ["bytes"], format: bytes, least: 50e6 }),
    handshakes: machine({ title: "Handshakes", note: "Per second", names: ["ended well", "failed or refused"], format: number, least: 1 }),
  };
}

function draw(view) {
  const at = samples.map((sample) => sample.unix_ms);
  const span = Math.max(60000, Math.min(view.samples_max * view.interval_s * 1000, at.length ? at[at.length - 1] - at[0] : 0));
  const column = (read) => samples.map(read);
  const show = (chart, series) => chart.show(at, series, span, marks);
  show(charts.throughput, [column((s) => s.in_bits), column((s) => s.out_bits)]);
  const classes = view.classes.map((name, place) => ({ name, median: column((s) => s.delay_p50_us[place]), most: column((s) => s.delay_p99_us[place]) }));
  const flowing = classes.filter((row, place) => place === 0 || row.most.some((value) => value > 0));
  charts.delay.names = flowing.flatMap((row) => [`${row.name} median`, `${row.name} p99`]);
  show(charts.delay, flowing.flatMap((row) => [row.median, row.most]));
  show(charts.objects, [column((s) => s.delivered)]);
  show(charts.kernel, [column((s) => s.kernel_drops)]);
  show(charts.load, view.shards.map((_, shard) => column((s) => s.busy[shard] ?? 0)));
  show(charts.lag, [0, 1].map((place) => column((s) => s.lag_us[place])));
  show(charts.machine, [column((s) => s.cores)]);
  show(charts.memory, [column((s) => s.resident_bytes)]);
  show(charts.people, [column((s) => s.sessions), column((s) => s.rooms)]);
  show(charts.rungs, view.rungs.slice(1).map((_, place) => column((s) => s.rungs[place + 1])));
  show(charts.handshakes, [0, 1].map((place) => column((s) => s.handshakes[place])));
  show(charts.trips, [0, 1].map((place) => column((s) => s.rtt_us[place])));
  show(charts.paths, [0, 1].map((place) => column((s) => s.path_bits[place])));
  show(charts.late, [column((s) => s.late_joiners)]);
  const reasons = view.drops.map((row, place) => ({ ...row, place, sum: samples.reduce((sum, s) => sum + s.dropped[place], 0) }));
  const largest = reasons.filter((row) => !row.meant && row.sum > 0).sort((one, other) => other.sum - one.sum).slice(0, 6);
  const meant = reasons.filter((row) => row.meant);
  charts.dropped.names = [...largest.map((row) => words(row.reason)), "on purpose"];
  show(charts.dropped, [...largest.map((row) => column((s) => s.dropped[row.place])), column((s) => meant.reduce((sum, row) => sum + s.dropped[row.place], 0))]);
}

function tiles(view) {
  const last = samples[samples.length - 1];
  const busiest = last ? Math.max(0, ...last.busy) : 0;
  const minute = samples.slice(-30);
  const worst = (read) => Math.max(0, ...minute.map(read));
  const lost = view.drops.filter((row) => !row.meant).reduce((sum, row) => sum + row.last_minute, 0);
  const meant = view.drops.filter((row) => row.meant).reduce((sum, row) => sum + row.last_minute, 0);
  const kernel = minute.reduce((sum, sample) => sum + sample.kernel_drops * view.interval_s, 0);
  const certificate = view.certificate_left_s;
  const warned = new Set(view.warnings.map((warning) => warning.alert));
  // Some with the warnings that tell of them.
  const groups = {
    people: [
      ["sessions", number(view.now.sessions)],
      ["of pages / over TCP", `${number(view.now.sessions_of_pages)} / ${number(view.now.sessions_over_tcp)}`],
      ["people known", number(view.now.people)],
      ["rooms", number(view.now.rooms)],
      ["members in rooms", number(view.now.members)],
      ["ringing", number(view.now.rings)],
      ["subscriptions", number(view.now.subscriptions)],
      ["round trip, p99, last minute", millis(view.minute.rtt_p99_us)],
    ],
    media: [
      ["delivered a second", number(last?.delivered ?? 0)],
      ["out", bits(last?.out_bits ?? 0)],
      ["audio in the relay, p99, last minute", millis(view.minute.delay_p99_us[0]), ["SupernodeSlow"]],
      ["longest wait, last minute", millis(worst((s) => s.queue_oldest_us))],
      ["lost, last minute", number(lost), ["SupernodeDrops"]],
      ["left out on purpose, last minute", number(meant)],
      ["newest groups kept", bytes(last?.cached_bytes ?? 0)],
    ],
    machine: [
      ["busiest shard", percent(busiest), ["SupernodeShardBusy"]],
      ["shards' lag, p99, last minute", millis(view.minute.lag_p99_us), ["SupernodeStarved"]],
      ["packets the kernel dropped, last minute", number(kernel), ["SupernodeReceiveDrops"]],
      ["CPU, cores", (last?.cores ?? 0).toFixed(2)],
      ["memory", bytes(last?.resident_bytes ?? 0)],
      ["certificate", ends(certificate), ["SupernodeCertificateExpires", "SupernodeCertificateExpired"]],
    ],
  };
  if (view.hook) groups.people.push(["hook: answers and silences, last minute", `${number(view.hook.answered)} / ${number(view.hook.unanswered)}`, ["SupernodeHookSilent"]]);
  const tile = ([name, value, alerts = []]) => element("div", { class: alerts.some((alert) => warned.has(alert)) ? "tile bad" : "tile" }, element("b", {}, value), element("span", { class: "quiet" }, name));
  for (const [group, shown] of Object.entries(groups)) byId(`${group}-tiles`).replaceChildren(...shown.map(tile));
}

// What happened to the relay itself, as far as the charts go back.
function happened(view) {
  for (const mark of view.marks) {
    if (!marks.some((known) => known.unix_ms === mark.unix_ms && known.what === mark.what)) marks.push(mark);
  }
  const begin = Date.now() - view.samples_max * view.interval_s * 1000;
  while (marks.length && marks[0].unix_ms < begin) marks.shift();
  const shown = marks.slice(-6).map((mark) => `${clock(mark.unix_ms)} ${mark.what}`);
  byId("marks").textContent = shown.length ? `Lately: ${shown.join(" · ")}` : "";
}

function warnings(view) {
  const shown = view.warnings.map((warning) =>
    element("div", { class: `warning ${warning.level}${warning.follows ? " follows" : ""}` }, element("strong", {}, warning.text), `${warning.advice} `,
      element("a", { href: `handbook#${warning.alert.toLowerCase()}` }, `Handbook: ${warning.alert}`)));
  if (shown.length === 0) shown.push(element("div", { class: "warning well" }, element("strong", {}, "All is well."), "Nothing in the last minute that you would want to know."));
  byId("warnings").replaceChildren(...shown);
}

// The relay does not answer: since when, what that means, and what to type.
function silence(error) {
  silent ??= Date.now();
  const since = new Date(silent).toLocaleTimeString([], { hourCycle: "h23" });
  document.body.classList.add("silent");
  document.title = "NO ANSWER: Supernode";
  const state = byId("state");
  state.textContent = "no answer";
  state.className = "pill lost";
  byId("lost").hidden = false;
  byId("lost").replaceChildren(
    element("strong", {}, `The relay has not answered since ${since} (${duration((Date.now() - silent) / 1000)}).`),
    "What is grey below was true before. On the relay's machine: ",
    element("code", {}, "systemctl status supernode"), " and ", element("code", {}, "journalctl -u supernode -n 50"),
    " say whether it runs and what it said last; ", element("code", {}, "supernode doctor"),
    " looks for the cause. If you reach this page through an SSH tunnel, see whether that still stands. ",
    element("span", { class: "quiet" }, `(${error.message ?? error})`));
}

function speech() {
  if (silent === null) return;
  silent = null;
  document.body.classList.remove("silent");
  byId("lost").hidden = true;
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
  const problems = view.warnings.filter((warning) => warning.level === "problem").length;
  const told = problems ? `${problems} problem${problems === 1 ? "" : "s"}: ` : "";
  document.title = `${view.draining ? "draining: " : ""}${told}Supernode`;
  byId("about").textContent = `version ${view.version} · up ${duration(view.uptime_s)} · ${view.shards.length} shard${view.shards.length === 1 ? "" : "s"} · ${number(view.now.connections)} connections${view.now.over_tcp ? `, ${number(view.now.over_tcp)} of them over TCP` : ""}`;
  byId("page").textContent = view.page ? `The page for browsers: ${view.page.url} · SHA-256 ${view.page.sha256}` : "";
  happened(view);
  warnings(view);
  tiles(view);
  draw(view);
  const drops = view.drops.filter((row) => row.total > 0).sort((one, other) => other.last_minute - one.last_minute || other.total - one.total);
  table("drops", drops.map((row) => ({ cells: [`${words(row.reason)}: ${row.sentence}${row.meant ? " (on purpose)" : ""}`, number(row.last_minute), number(row.total)], idle: !row.last_minute })), "Nothing was dropped.");
  table("limits", view.limits.map((row) => ({ cells: [row.name, number(row.last_minute), number(row.total)], idle: !row.last_minute })), "None has bitten.");
  table("closed", view.closed.map((row) => ({ cells: [row.name, number(row.total)] })), "None has ended.");
}

async function look() {
  try {
    const after = samples.length && samples[samples.length - 1].number >= 0 ? `?after=${samples[samples.length - 1].number}` : "";
    const answer = await fetch(`dashboard.json${after}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the relay answered ${answer.status}`);
    const view = await answer.json();
    // A relay that was started anew counts from zero again, and may know samples that this page asked it to leave out.
    if (samples.length && view.uptime_s < look.uptime_s) {
      look.uptime_s = view.uptime_s;
      samples.forEach((sample) => { sample.number = -1; });
      return look();
    }
    look.uptime_s = view.uptime_s;
    speech();
    samples.push(...view.samples);
    if (samples.length > view.samples_max) samples.splice(0, samples.length - view.samples_max);
    show(view);
    setTimeout(look, view.interval_s * 1000);
  } catch (error) {
    silence(error);
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
