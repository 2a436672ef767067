// Figures over all predictions, each from a named query.
import { sendJson } from "../api.js";
import { count, duration, fixed, parseTime, percent, shortCount } from "../format.js";
import { html, useEffect, useMemo, useState } from "../lib.js";
import { ChartCard, RowTable } from "../parts/chartcard.js";
import { Bars, Lines } from "../parts/charts.js";
import { Button, Problem, useLoad } from "../parts/ui.js";
import { setQuery } from "../route.js";
import { T } from "../text.js";

/** @typedef {Record<string, any>} Row */

const t = T.analytics;
/** @type {Record<string, {seconds: number, bucket: string}>} */
const RANGES = {
  "1h": { seconds: 3_600, bucket: "minute" },
  "6h": { seconds: 21_600, bucket: "minute" },
  "1d": { seconds: 86_400, bucket: "hour" },
  "7d": { seconds: 604_800, bucket: "hour" },
  "30d": { seconds: 2_592_000, bucket: "day" },
  "90d": { seconds: 7_776_000, bucket: "day" },
};
const SCORES = { rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeL: "ROUGE-L", rougeLsum: "ROUGE-Lsum", bleu: "BLEU" };
const REFRESH_MS = 30_000;

const seconds = (/** @type {Row} */ row) => (parseTime(row.time)?.getTime() ?? 0) / 1_000;
const column = (/** @type {Row[]} */ rows, /** @type {string} */ name) => rows.map((row) => /** @type {number | null} */ (row[name] ?? null));

/** Joins two answers on one time axis. The second is moved by `shift` seconds. */
function joined(/** @type {Row[]} */ rows, /** @type {Row[]} */ other, /** @type {number} */ shift) {
  const first = new Map(rows.map((row) => [seconds(row), row]));
  const second = new Map(other.map((row) => [seconds(row) + shift, row]));
  const times = [...new Set([...first.keys(), ...second.keys()])].sort((a, b) => a - b);
  return { times, rows: times.map((at) => first.get(at) ?? {}), other: times.map((at) => second.get(at) ?? {}) };
}

const WIDTHS = { minute: 60, hour: 3_600, day: 86_400 };
const MAX_BUCKETS = 800;

/** Counts by bucket and part. Buckets without predictions are there too. */
function byBucket(/** @type {Row[]} */ rows, /** @type {(row: Row) => string} */ part, /** @type {[number, number]} */ range, /** @type {string} */ bucket) {
  /** @type {Map<number, Record<string, number>>} */
  const found = new Map();
  const width = WIDTHS[/** @type {keyof typeof WIDTHS} */ (bucket)];
  if (width && (range[1] - range[0]) / width <= MAX_BUCKETS) {
    for (let at = Math.floor(range[0] / width) * width; at < range[1]; at += width) found.set(at, {});
  }
  for (const row of rows) {
    const bar = found.get(seconds(row)) ?? {};
    bar[part(row)] = (bar[part(row)] ?? 0) + row.count;
    found.set(seconds(row), bar);
  }
  return [...found].sort(([a], [b]) => a - b);
}

/** The window of the address: named range or two times. */
function windowOf(/** @type {URLSearchParams} */ query, /** @type {number} */ now) {
  const [from, to] = [parseTime(query.get("from")), parseTime(query.get("to"))];
  if (from && to && from < to) return { from: from.getTime() / 1_000, to: to.getTime() / 1_000, custom: true };
  const range = RANGES[query.get("range") ?? "1d"] ?? RANGES["1d"];
  // Whole minutes: the same address asks the same question within a minute.
  const end = Math.ceil(now / 60_000) * 60;
  return { from: end - range.seconds, to: end, custom: false };
}

function bucketFor(/** @type {number} */ length) {
  return length <= 21_600 ? "minute" : length <= 14 * 86_400 ? "hour" : "day";
}

const iso = (/** @type {number} */ at) => new Date(at * 1_000).toISOString().replace(".000Z", "Z");
/** A value for `<input type="datetime-local">`, in local time. */
const local = (/** @type {number} */ at) => new Date(at * 1_000 - new Date(at * 1_000).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/** @param {{route: import("../route.js").Route}} props */
export function Analytics({ route }) {
  const { query } = route;
  const [now, setNow] = useState(Date.now);
  const [live, setLive] = useState(true);
  useEffect(() => {
    if (!live) return;
    const timer = setInterval(() => !document.hidden && setNow(Date.now()), REFRESH_MS);
    return () => clearInterval(timer);
  }, [live]);
  const { data: list, error, reload } = useLoad((signal) => sendJson({ method: "GET", path: "/v1/analytics" }, signal), []);
  const queries = useMemo(() => Object.fromEntries((list?.queries ?? []).map((/** @type {any} */ one) => [one.name, one])), [list]);
  const view = windowOf(query, now);
  const length = view.to - view.from;
  const named = query.get("range") ?? "1d";
  const buckets = queries.throughput?.parameters.find((/** @type {any} */ one) => one.name === "bucket")?.choices ?? ["minute", "hour", "day"];
  const wanted = query.get("bucket") ?? (view.custom ? bucketFor(length) : (RANGES[named]?.bucket ?? "hour"));
  const bucket = buckets.includes(wanted) ? wanted : "hour";
  const score = query.get("score") ?? "rouge1";
  const filters = { model: query.get("model"), channel: query.get("channel"), tenant: query.get("tenant") };
  const values = { from: iso(view.from), to: iso(view.to), ...filters };
  const timed = { ...values, bucket };
  const overlay = query.get("vs") ?? "";
  const shift = overlay === "previous" ? length : overlay === "week" ? 604_800 : 0;
  const other = shift
    ? { from: iso(view.from - shift), to: iso(view.to - shift), ...filters }
    : overlay.startsWith("model:")
      ? { ...values, model: overlay.slice(6) }
      : null;
  const otherTimed = other && { ...other, bucket };
  const otherName = shift ? t.overlays[/** @type {keyof typeof t.overlays} */ (overlay)] : overlay.slice(6);
  /** @type {[number, number]} */
  const range = [view.from, view.to];
  const { data: models } = useLoad((signal) => sendJson({ method: "GET", path: `/v1/analytics/models?from=${iso(view.to - 7_776_000)}` }, signal).catch(() => ({ data: [] })), []);
  const { data: channels } = useLoad((signal) => sendJson({ method: "GET", path: `/v1/analytics/channels?from=${iso(view.to - 7_776_000)}` }, signal).catch(() => ({ data: [] })), []);
  // Jobs that only score a given summary have no model.
  const modelNames = [...new Set((models?.data ?? []).map((/** @type {Row} */ row) => row.model))].filter(Boolean);
  const channelNames = [...new Set((channels?.data ?? []).map((/** @type {Row} */ row) => row.channel))];
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setQuery({ [name]: event.target.value });

  const lines = (/** @type {Row[]} */ rows, /** @type {Row[]} */ more, /** @type {{name: string, label: string}[]} */ wantedLines, /** @type {(value: number) => string} */ format, /** @type {string} */ label) => {
    const both = joined(rows, more, shift);
    const series = wantedLines.flatMap(({ name, label: text }, index) => [
      { label: text, values: column(both.rows, name), colour: `--c${index + 1}` },
      ...(more.length ? [{ label: `${text} (${otherName})`, values: column(both.other, name), colour: `--c${index + 1}`, dashed: true }] : []),
    ]);
    return html`<${Lines} times=${both.times} series=${series} format=${format} label=${label} range=${range} />`;
  };
  const card = { queries };
  const timeLabel = (/** @type {number} */ stamp) => {
    const at = new Date(stamp * 1_000);
    return bucket === "day" || bucket === "month" ? at.toLocaleDateString("en-GB", { day: "numeric", month: "short" }) : length > 86_400 ? at.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit" }) : at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  };

  return html`<section class="analytics">
    <header class="head">
      <div><h1>${t.title}</h1><p class="hint">${t.hint}</p></div>
      <div class="row">
        <label class="check"><input type="checkbox" checked=${live} onChange=${(/** @type {any} */ event) => setLive(event.target.checked)} /> ${t.live}</label>
        <${Button} icon="refresh" onClick=${() => { setNow(Date.now()); reload(); }}>${t.refresh}<//>
      </div>
    </header>
    <div class="controls">
      <div class="segmented" role="group" aria-label=${t.range}>
        ${Object.keys(RANGES).map((name) => html`<button type="button" aria-pressed=${!view.custom && named === name} onClick=${() => setQuery({ range: name, from: "", to: "", bucket: "" })}>${name}</button>`)}
      </div>
      <div class="span">
        <input type="datetime-local" aria-label=${t.from} value=${local(view.from)} onChange=${(/** @type {any} */ event) => event.target.value && setQuery({ from: new Date(event.target.value).toISOString(), to: iso(view.to) })} />
        <span>–</span>
        <input type="datetime-local" aria-label=${t.to} value=${local(view.to)} onChange=${(/** @type {any} */ event) => event.target.value && setQuery({ from: iso(view.from), to: new Date(event.target.value).toISOString() })} />
      </div>
      <div class="segmented" role="group" aria-label=${t.bucket}>
        ${buckets.map((/** @type {string} */ name) => html`<button type="button" aria-pressed=${bucket === name} onClick=${() => setQuery({ bucket: name })}>${t.buckets[/** @type {keyof typeof t.buckets} */ (name)] ?? name}</button>`)}
      </div>
      <select aria-label=${t.model} value=${filters.model ?? ""} onChange=${set("model")}><option value="">${t.allModels}</option>${modelNames.map((name) => html`<option value=${name}>${name}</option>`)}</select>
      <select aria-label=${t.channel} value=${filters.channel ?? ""} onChange=${set("channel")}><option value="">${t.allChannels}</option>${channelNames.map((name) => html`<option value=${name}>${name}</option>`)}</select>
      <select aria-label=${t.score} value=${score} onChange=${set("score")}>${Object.entries(SCORES).map(([name, text]) => html`<option value=${name}>${text}</option>`)}</select>
      <select aria-label=${t.overlay} value=${overlay} onChange=${set("vs")}>
        <option value="">${t.overlay} …</option><option value="previous">${t.overlays.previous}</option><option value="week">${t.overlays.week}</option>
        ${modelNames.map((name) => html`<option value=${`model:${name}`}>${name}</option>`)}
      </select>
    </div>
    <${Problem} error=${error} retry=${reload} />
    <div class="charts">
      <${ChartCard} ...${card} title=${t.cards.channels} query="throughput" values=${timed} draw=${(/** @type {Row[]} */ rows) => {
        const names = [...new Set(rows.map((row) => row.channel))].sort();
        const bars = byBucket(rows, (row) => row.channel, range, bucket).map(([at, parts]) => ({ label: timeLabel(at), values: parts }));
        return html`<${Bars} label=${t.cards.channels} names=${names} format=${shortCount} bars=${bars} />`;
      }} />
      <${ChartCard} ...${card} title=${t.cards.score(SCORES[/** @type {keyof typeof SCORES} */ (score)])} query="scores" values=${{ ...timed, score }} other=${otherTimed && { ...otherTimed, score }} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) => {
        const both = joined(rows, more, shift);
        const spread = (/** @type {number} */ sign) => both.rows.map((row) => (row.deviation === null || row.deviation === undefined ? null : row.mean + sign * row.deviation));
        const series = [
          { label: t.mean, values: column(both.rows, "mean"), colour: "--c1" },
          { label: t.max, values: column(both.rows, "max"), hidden: true },
          { label: t.min, values: column(both.rows, "min"), hidden: true },
          { label: "+σ", values: spread(1), hidden: true },
          { label: "−σ", values: spread(-1), hidden: true },
          ...(more.length ? [{ label: `${t.mean} (${otherName})`, values: column(both.other, "mean"), colour: "--c2", dashed: true }] : []),
        ];
        const bands = [{ upper: 1, lower: 2, colour: "--c1", opacity: 0.1 }, { upper: 3, lower: 4, colour: "--c1", opacity: 0.2 }];
        return html`<${Lines} times=${both.times} series=${series} bands=${bands} range=${range} label=${t.cards.score(score)} format=${(/** @type {number} */ value) => fixed(value, score === "bleu" ? 1 : 2)} />`;
      }} />
      <${ChartCard} ...${card} title=${t.cards.latency} query="latency_over_time" values=${timed} other=${otherTimed} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) =>
        lines(rows, more, [{ name: "p50_ms", label: "p50" }, { name: "p95_ms", label: "p95" }, { name: "p99_ms", label: "p99" }], duration, t.cards.latency)} />
      <${ChartCard} ...${card} title=${t.cards.stages} query="latency" values=${values} other=${other} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) => html`<${Stages} rows=${rows} other=${more} name=${otherName} />`} />
      <${ChartCard} ...${card} title=${t.cards.distribution(SCORES[/** @type {keyof typeof SCORES} */ (score)])} query="score_distribution" values=${{ ...values, score }} draw=${(/** @type {Row[]} */ rows) =>
        html`<${Bars} label=${t.cards.distribution(score)} names=${["count"]} format=${shortCount} bars=${rows.map((row) => ({ label: String(Number(row.from.toFixed(2))), values: { count: row.count } }))} />`} />
      <${ChartCard} ...${card} title=${t.cards.lengths} query="lengths" values=${timed} other=${otherTimed} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) =>
        lines(rows, more, [{ name: "summary_chars", label: t.summary }, { name: "reference_chars", label: t.reference }], (value) => shortCount(Math.round(value)), t.cards.lengths)} />
      <${ChartCard} ...${card} title=${t.cards.compression} query="lengths" values=${timed} other=${otherTimed} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) =>
        lines(rows, more, [{ name: "compression", label: t.summary }, { name: "reference_compression", label: t.reference }], (value) => `${fixed(value, 0)} ×`, t.cards.compression)} />
      <${ChartCard} ...${card} title=${t.cards.signals} query="signals" values=${timed} other=${otherTimed} draw=${(/** @type {Row[]} */ rows, /** @type {Row[]} */ more) =>
        lines(rows, more, [{ name: "coverage", label: t.coverage }, { name: "novel_bigrams", label: t.novel }, { name: "repetition_rate", label: t.repetition }], (value) => percent(value), t.cards.signals)} />
      <${ChartCard} ...${card} title=${t.cards.outcomes} query="throughput" values=${timed} draw=${(/** @type {Row[]} */ rows) => {
        const buckets = byBucket(rows, (row) => T.status[/** @type {keyof typeof T.status} */ (row.outcome)] ?? row.outcome, range, bucket);
        const names = [T.status.succeeded, T.status.failed, T.status.expired, T.status.cancelled].filter((name) => buckets.some(([, parts]) => parts[name]));
        return html`<${Bars} label=${t.cards.outcomes} names=${names} format=${shortCount} bars=${buckets.map(([at, parts]) => ({ label: timeLabel(at), values: parts }))} />`;
      }} />
      <${ChartCard} ...${card} title=${t.cards.errors} nothing=${t.noErrors} query="errors" values=${values} draw=${(/** @type {Row[]} */ rows) => html`<${RowTable} label=${t.cards.errors} rows=${rows} formats=${{
        error_code: (/** @type {string} */ code) => html`<a href=${`/errors/${code}`} target="_blank" rel="noopener">${code}</a>`,
        share: (/** @type {number} */ value) => percent(value, 1),
      }} />`} />
      <${ChartCard} ...${card} wide title=${t.cards.models} query="models" values=${{ from: values.from, to: values.to, channel: filters.channel, tenant: filters.tenant }} draw=${(/** @type {Row[]} */ rows) => html`<${RowTable} label=${t.cards.models} rows=${rows.filter((row) => row.model)} formats=${{
        success: (/** @type {number} */ value) => percent(value, 1),
        p50_ms: duration, p95_ms: duration, decode_p50_ms: duration, count,
      }} />`} />
      <${ChartCard} ...${card} wide title=${t.cards.drift} nothing=${t.noDrift} hint=${t.driftHint} query="drift" values=${{ from: iso(view.to - Math.max(length, 8 * 86_400)), to: values.to, model: filters.model }} draw=${(/** @type {Row[]} */ rows) => html`<${RowTable} label=${t.cards.drift} rows=${[...rows].sort((a, b) => Number(b.alert) - Number(a.alert) || b.psi - a.psi)} formats=${{
        alert: (/** @type {any} */ value) => (value ? html`<span class="status failed">${t.alert}</span>` : ""),
        psi: (/** @type {number} */ value) => fixed(value, 3), mean_shift: (/** @type {number} */ value) => fixed(value, 3),
      }} />`} />
    </div>
  </section>`;
}

const STAGES = ["queue", "batch_wait", "tokenize", "encode", "decode", "publish", "end_to_end"];

/** Percentiles of each stage as nested bars. */
function Stages(/** @type {{rows: Row[], other: Row[], name: string}} */ { rows, other, name }) {
  const top = Math.max(...[...rows, ...other].map((row) => row.p99_ms), 1e-3);
  const find = (/** @type {Row[]} */ list, /** @type {string} */ stage) => list.find((row) => row.stage === stage);
  const bar = (/** @type {Row | undefined} */ row, /** @type {boolean} */ second) =>
    row && html`<span class=${`nested ${second ? "second" : ""}`}>
      <i class="p99" style=${{ width: `${(row.p99_ms / top) * 100}%` }}></i><i class="p95" style=${{ width: `${(row.p95_ms / top) * 100}%` }}></i><i class="p50" style=${{ width: `${(row.p50_ms / top) * 100}%` }}></i>
    </span>`;
  return html`<table class="stages">
    <thead><tr><td></td><td></td><th class="number">p50</th><th class="number">p95</th><th class="number">p99</th></tr></thead>
    <tbody>${STAGES.map((stage) => {
      const row = find(rows, stage);
      return html`<tr key=${stage}><th scope="row">${t.stages[/** @type {keyof typeof t.stages} */ (stage)]}</th>
        <td class="grow">${bar(row, false)}${bar(find(other, stage), true)}</td>
        <td class="number">${duration(row?.p50_ms)}</td><td class="number">${duration(row?.p95_ms)}</td><td class="number">${duration(row?.p99_ms)}</td></tr>`;
    })}</tbody>
  </table>
  ${other.length > 0 && html`<p class="hint">${t.thin(name)}</p>`}`;
}
