// The page: takes a status document a second from the stream and shows it. Everything from outside goes in as text, never as HTML.

import { Chart } from "./chart.js";

const $ = (id) => document.getElementById(id);

function node(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const number = (value) =>
  value >= 1e9 ? `${(value / 1e9).toFixed(1)}G` : value >= 1e6 ? `${(value / 1e6).toFixed(1)}M`
  : value >= 1e4 ? `${(value / 1e3).toFixed(1)}k` : value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
const bytes = (value) => (value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${(value / 2 ** 20).toFixed(0)} MiB`);

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const at = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[at];
  const rest = units[at + 1];
  const more = rest ? Math.floor((seconds % size) / rest[0]) : 0;
  return `${Math.floor(seconds / size)} ${name}${more ? ` ${more} ${rest[1]}` : ""}`;
}

/** The value below which `share` of the requests between two documents ended, in seconds; null without requests. */
function quantile(before, now, share) {
  const old = new Map(before.latency.buckets);
  const fresh = now.latency.buckets.map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)]).filter(([, count]) => count > 0);
  const all = fresh.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [bound, count] of fresh) {
    seen += count;
    // the middle of a bucket, of which there are 16 an octave and below 32 one a microsecond
    if (seen >= all * share) return (bound - 2 ** Math.max(0, Math.floor(Math.log2(bound - 1)) - 4) / 2) / 1e6;
  }
  return null;
}

const rates = new Chart($("chart-rate"), number);
const latencies = new Chart($("chart-latency"), (value) => duration(value));
let last = null;

function figures(pairs) {
  $("figures").replaceChildren(
    ...pairs.map(([name, value, kind]) => node("div", {}, node("dt", { textContent: name }), node("dd", { textContent: value, className: kind ?? "" }))),
  );
}

function rows(id, cells, empty) {
  const body = cells.map((row) => node("tr", {}, ...row.map(([text, kind]) => node("td", { textContent: text, className: kind ?? "" }))));
  const columns = $(id).tHead.rows[0].cells.length;
  $(id).tBodies[0].replaceChildren(
    ...(body.length ? body : [node("tr", {}, node("td", { textContent: empty, colSpan: columns, className: "quiet" }))]),
  );
}

const slots = (count) => `${count} ${count === 1 ? "slot" : "slots"} stuck`;

function card(worker, rate) {
  const stage = worker.stalled ? "stalled" : worker.stage;
  const facts = [
    ["req/s", rate === null ? "–" : number(rate)], ["busy", worker.limit ? `${worker.in_flight}/${worker.limit}` : "–"],
    ["conns", number(worker.connections)], ["mem", bytes(worker.rss)],
    ...(worker.private === null ? [] : [["own mem", bytes(worker.private)]]),
    ["up", duration(worker.uptime)], ["lag", worker.beat_age > 1.5 ? `silent ${duration(worker.beat_age)}` : duration(worker.hub_lag)],
  ];
  if (worker.threads !== null) facts.push(["threads", worker.threads], ["GIL wait", worker.gil ? duration(worker.gil_wait) : "off"]);
  const meter = node("meter", { min: 0, max: worker.limit || 1, value: worker.in_flight, ariaLabel: "requests in work of pool_size" });
  const oldest = worker.oldest ? `oldest ${duration(worker.oldest.age)}: ${worker.oldest.line}` : "nothing in flight";
  const cause = worker.cause ? `ending: ${worker.cause}` : worker.last_end ? `last end: ${worker.last_end}` : "";
  const made = node("article", { className: `worker ${stage}` },
    node("header", {}, node("span", { textContent: `worker ${worker.slot}` }), node("span", { textContent: stage, className: { ready: "good", stalled: "bad", killed: "bad" }[stage] ?? "warn" })),
    node("dl", {}, ...facts.flatMap(([name, value]) => [node("dt", { textContent: name }), node("dd", { textContent: value })])),
    meter,
    node("p", { textContent: oldest, title: oldest }),
    ...(worker.stuck ? [node("p", { textContent: slots(worker.stuck), className: "bad" })] : []),
    node("p", { textContent: `${worker.engine} · pid ${worker.pid}${cause ? ` · ${cause}` : ""}`, className: "quiet" }));
  made.dataset.pid = worker.pid;
  return made;
}

function workers(found, before, seconds) {
  const old = new Map((before?.workers ?? []).map((worker) => [worker.pid, worker]));
  const generations = [...new Set(found.workers.map((worker) => worker.generation))].sort((a, b) => b - a);
  $("generations").replaceChildren(...generations.map((generation) => {
    const mine = found.workers.filter((worker) => worker.generation === generation);
    const mold = found.molds.find((one) => one.generation === generation);
    const forks = !mold ? "" : mold.stage === "loading" ? `; mold ${mold.pid} loads` : `; mold ${mold.pid}: loaded in ${duration(mold.load)}, forks in ${duration(mold.fork)}`;
    const word = generation === found.generation ? "present" : generation > found.generation ? "being raised" : "leaving";
    const cards = mine.map((worker) => {
      const was = old.get(worker.pid);
      return card(worker, was && seconds > 0 ? Math.max(0, worker.requests - was.requests) / seconds : null);
    });
    const made = node("div", { className: "generation" },
      node("h3", {}, `Generation ${generation} `, node("span", { className: "quiet", textContent: `${word}, ${mine.length} worker${mine.length === 1 ? "" : "s"}${forks}` })),
      node("div", { className: "cards" }, ...cards));
    made.dataset.generation = generation;
    return made;
  }));
}

function tables(found) {
  const flights = found.workers.flatMap((worker) => worker.flights.map((flight) => ({ ...flight, worker }))).sort((a, b) => b.age - a.age);
  const all = found.workers.reduce((sum, worker) => sum + worker.in_flight, 0);
  $("flight-count").textContent = all > 20 ? `the oldest 20 of ${all}` : "";
  rows("flights", flights.slice(0, 20).map((flight) => [
    [duration(flight.age), "n"], [flight.stuck ? `stuck: ${flight.line}` : flight.line, flight.stuck ? "mono bad" : "mono"], [flight.worker.slot, "n"], [flight.worker.generation, "n"], [flight.id, "mono quiet"],
  ]), "none");
  rows("listeners", found.listeners.map(({ name, address, queue }) => [
    [name], [address, "mono"], [queue ? `${queue.depth} of ${queue.limit}` : "–", "n"], [queue ? queue.drops : "–", queue?.drops ? "n warn" : "n"],
  ]), "none");
  rows("history", found.history.toReversed().map((change) => [
    [`${duration(change.ago)} ago`, "n"], [`${change.kind} to ${change.generation}`], [change.ok ? "ok" : "failed", change.ok ? "good" : "bad"],
    [duration(change.seconds), "n"], [change.text, "wide"],
  ]), "none since the start");
}

function show(found) {
  const before = last && last.pid === found.pid && last.totals.requests <= found.totals.requests ? last : null;
  const seconds = before ? found.uptime - before.uptime : 0;
  const rate = seconds > 0 ? (found.totals.requests - before.totals.requests) / seconds : null;
  const [median, high] = before ? [quantile(before, found, 0.5), quantile(before, found, 0.99)] : [null, null];
  last = found;
  document.title = `apid: ${found.phase}`;
  $("version").textContent = found.version;
  $("line").textContent = found.line;
  $("who").textContent = `pid ${found.pid}, up ${duration(found.uptime)}; told by worker ${found.answered_by}`;
  const stalled = found.workers.filter((worker) => worker.stalled).length;
  const stuck = found.workers.reduce((total, worker) => total + worker.stuck, 0);
  const [word, kind] = found.degraded ? ["degraded", "bad"] : stalled ? [`${stalled} stalled`, "bad"] : stuck ? [slots(stuck), "bad"] : found.change ? [`${found.change.kind}: ${found.change.step}`, "warn"]
    : found.phase === "running" ? ["running", "good"] : [found.phase, "warn"];
  $("state").textContent = word;
  $("state").className = `state ${kind}`;
  const sum = (key) => found.workers.reduce((total, worker) => total + worker[key], 0);
  figures([
    ["Generation", found.generation], ["Workers", `${found.ready} of ${found.wanted}`, found.ready < found.wanted ? "warn" : ""],
    ["Connections", number(sum("connections"))], ["In flight", number(sum("in_flight"))], ["Requests", number(found.totals.requests)],
    ["4xx", number(found.totals.status_4xx)], ["5xx", number(found.totals.status_5xx), found.totals.status_5xx ? "warn" : ""],
  ]);
  if (rate !== null) {
    rates.add(rate);
    latencies.add(median, high);
    $("rate").textContent = number(rate);
    $("latency").textContent = `p50 ${duration(median)} · p99 ${duration(high)}`;
  }
  workers(found, before, seconds);
  tables(found);
}

function connect() {
  const events = new EventSource("events");
  events.onmessage = (event) => {
    document.body.classList.remove("stale");
    show(JSON.parse(event.data));
  };
  events.onerror = () => {
    document.body.classList.add("stale");
    $("state").textContent = "connecting again";
    $("state").className = "state bad";
    if (events.readyState === EventSource.CLOSED) {
      events.close();
      setTimeout(connect, 3000); // refused for good (503, 404): the browser does not try again by itself
    }
  };
}

connect();
