// Every prediction: search, filters, pages, and what to do with all that match.
import { save, send, sendJson, withQuery } from "../api.js";
import { duration, fixed, parseTime, time } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { offer } from "../parts/palette.js";
import { Button, Curl, Field, Lazy, Problem, Status } from "../parts/ui.js";
import { go, hrefOf, setQuery } from "../route.js";
import { randomId } from "../storage.js";
import { T } from "../text.js";
import { Bulk } from "./bulk.js";
import { Job } from "./job.js";
import { Waiting } from "./waiting.js";

/** @typedef {Record<string, any>} Row */

const t = T.jobs;
const PAGE = 50;
const EXPORT_PAGE = 1_000;
const RESUBMIT_PAGE = 100;
const RANGES = { "1h": 3_600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000, "365d": 31_536_000 };
const CHOICES = {
  outcome: ["succeeded", "failed", "cancelled", "expired"],
  lane: ["high", "normal", "bulk"],
  task: ["summarize", "score"],
};
const TEXTS = /** @type {const} */ (["model", "channel", "tenant", "error_code", "batch", "worker", "metadata"]);
const FILTERS = ["q", ...TEXTS, "outcome", "lane", "task", "min_ms", "max_ms", "score", "min_score", "max_score"];

/** The filter of the address as parameters of the route. */
export function filterOf(/** @type {URLSearchParams} */ query) {
  /** @type {Record<string, string>} */
  const values = {};
  for (const name of FILTERS) {
    const value = query.get(name);
    if (value) values[name] = value;
  }
  if (!values.min_score && !values.max_score) delete values.score;
  const [from, to] = [parseTime(query.get("from")), parseTime(query.get("to"))];
  values.from = from ? from.toISOString() : `now-${Object.hasOwn(RANGES, query.get("range") ?? "") ? query.get("range") : "1d"}`;
  if (to) values.to = to.toISOString();
  return values;
}

/** @param {{route: import("../route.js").Route, models: any}} props */
export function Jobs({ route }) {
  if (route.id) return html`<${Job} key=${route.id} id=${route.id} />`;
  return route.query.get("view") === "waiting" ? html`<${Waiting} route=${route} />` : html`<${List} route=${route} />`;
}

/** Switches between the jobs that have ended and those that have not. */
export function Views(/** @type {{waiting?: boolean}} */ { waiting = false }) {
  return html`<div class="segmented" role="group" aria-label=${t.views}>
    <button type="button" aria-pressed=${!waiting} onClick=${() => go(hrefOf("jobs"))}>${t.ended}</button>
    <button type="button" aria-pressed=${waiting} onClick=${() => go(hrefOf("jobs", "", { view: "waiting" }))}>${t.waiting}</button>
  </div>`;
}

/** Pages of predictions for a filter. */
function usePages(/** @type {string} */ key, /** @type {Record<string, string>} */ filter) {
  const [state, setState] = useState(/** @type {{rows: Row[], done: boolean, loading: boolean, error?: unknown, took?: number}} */ ({ rows: [], done: false, loading: true }));
  const stop = useRef(new AbortController());
  const load = async (/** @type {Row[]} */ before) => {
    const { signal } = stop.current;
    setState({ rows: before, done: false, loading: true });
    const began = performance.now();
    try {
      const after = before.at(-1)?.cursor ?? "";
      const page = await sendJson({ method: "GET", path: withQuery("/v1/predictions", { ...filter, limit: PAGE, after }) }, signal);
      setState({ rows: [...before, ...page.data], done: page.data.length < PAGE, loading: false, took: performance.now() - began });
    } catch (error) {
      if (!signal.aborted) setState({ rows: before, done: true, loading: false, error });
    }
  };
  useEffect(() => {
    stop.current = new AbortController();
    load([]);
    return () => stop.current.abort();
  }, [key]);
  return { ...state, more: () => load(state.rows), reload: () => load([]) };
}

/** @param {{route: import("../route.js").Route}} props */
function List({ route }) {
  const { query } = route;
  const filter = filterOf(query);
  const key = JSON.stringify(filter);
  const { rows, done, loading, error, took, more, reload } = usePages(key, filter);
  const [dialog, setDialog] = useState("");
  const active = FILTERS.filter((name) => query.get(name) && !(name === "score" && !filter.score));
  const extra = active.filter((name) => name !== "q" && name !== "outcome");
  const [open, setOpen] = useState(extra.length > 0);
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setQuery({ [name]: event.target.value });
  const clear = () => setQuery(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  const path = withQuery("/v1/predictions", { ...filter, limit: PAGE });
  useEffect(() => offer({ label: t.failed, run: () => setQuery({ outcome: "failed" }) }), []);
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (!step) return;
    const links = /** @type {HTMLElement[]} */ ([.../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("a.open")]);
    const at = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (at < 0) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
  };
  return html`<section class="jobs">
    <header class="head">
      <div><h1>${t.title}</h1><p class="hint">${t.hint}</p></div>
      <div class="row">
        <${Button} icon="refresh" onClick=${reload}>${T.analytics.refresh}<//>
        <${Button} needs="submit" onClick=${() => setDialog("resubmit")} disabled=${!rows.length}>${t.resubmit}<//>
        <${Button} icon="download" onClick=${() => setDialog("export")} disabled=${!rows.length}>${t.export}<//>
        <${Curl} calls=${[{ method: "GET", path }]} />
      </div>
    </header>
    <div class="controls">
      <${Views} />
      <${Lazy} type="search" class="search" placeholder=${t.search} aria-label=${t.search} value=${query.get("q") ?? ""} onValue=${(/** @type {string} */ q) => setQuery({ q })} />
      <div class="segmented" role="group" aria-label=${T.analytics.range}>
        ${Object.keys(RANGES).map((name) => html`<button type="button" aria-pressed=${(query.get("range") ?? "1d") === name && !query.get("from")} onClick=${() => setQuery({ range: name, from: "", to: "" })}>${name}</button>`)}
      </div>
      <div class="chips" role="group" aria-label=${t.outcome}>
        ${CHOICES.outcome.map((name) => html`<button type="button" class="chip" aria-pressed=${query.get("outcome") === name} onClick=${() => setQuery({ outcome: query.get("outcome") === name ? "" : name })}>${T.status[/** @type {keyof typeof T.status} */ (name)]}</button>`)}
      </div>
      <${Button} kind=${open || extra.length ? "on" : ""} aria-expanded=${open} onClick=${() => setOpen(!open)}>${t.filters}${extra.length ? ` (${extra.length})` : ""}<//>
      ${active.length > 0 && html`<${Button} kind="quiet" onClick=${clear}>${t.clear}<//>`}
    </div>
    ${open &&
    html`<div class="card padded filters"><div class="fields">
      ${TEXTS.map((name) => html`<${Field} key=${name} label=${t.fields[name]}><${Lazy} type="text" value=${query.get(name) ?? ""} placeholder=${name === "metadata" ? "name=value" : ""} onValue=${(/** @type {string} */ value) => setQuery({ [name]: value.trim() })} /><//>`)}
      ${/** @type {const} */ (["lane", "task"]).map((name) => html`<${Field} key=${name} label=${t.fields[name]}><select value=${query.get(name) ?? ""} onChange=${set(name)}><option value="">${t.any}</option>${CHOICES[name].map((choice) => html`<option value=${choice}>${choice}</option>`)}</select><//>`)}
      <${Field} label=${t.fields.min_ms}><${Lazy} type="number" min="0" value=${query.get("min_ms") ?? ""} onValue=${(/** @type {string} */ value) => setQuery({ min_ms: value })} /><//>
      <${Field} label=${t.fields.max_ms}><${Lazy} type="number" min="0" value=${query.get("max_ms") ?? ""} onValue=${(/** @type {string} */ value) => setQuery({ max_ms: value })} /><//>
      <${Field} label=${t.fields.score}><select value=${query.get("score") ?? ""} onChange=${set("score")}>${["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"].map((name) => html`<option value=${name}>${name}</option>`)}</select><//>
      <${Field} label=${t.fields.min_score}><${Lazy} type="number" step="any" value=${query.get("min_score") ?? ""} onValue=${(/** @type {string} */ value) => setQuery({ min_score: value })} /><//>
      <${Field} label=${t.fields.max_score}><${Lazy} type="number" step="any" value=${query.get("max_score") ?? ""} onValue=${(/** @type {string} */ value) => setQuery({ max_score: value })} /><//>
    </div></div>`}
    <${Problem} error=${error} retry=${reload} />
    <div class="table-box" onKeyDown=${move} aria-busy=${loading}>
      <table class="list job-list">
        <thead><tr><th>${t.finished}</th><th>${t.outcome}</th><th class="grow">${t.text}</th><th>${t.fields.model}</th><th>${t.fields.channel}</th><th class="number">${t.latency}</th><th class="number">${(filter.score ?? "rouge1").replace("rouge", "R-")}</th></tr></thead>
        <tbody>
          ${rows.map((row) => html`<tr key=${row.cursor}>
            <td class="when" title=${parseTime(row.finished_at)?.toLocaleString()}>${time(row.finished_at)}</td>
            <td><${Status} status=${row.outcome} />${row.tenant === "sample-history" ? html` <span class="tag" title=${t.sampleHint}>${t.sample}</span>` : ""}${row.attempt > 1 ? html` <span class="tag" title=${T.summarize.attempt(row.attempt)}>×${row.attempt}</span>` : ""}</td>
            <td class="grow"><a class="open" href=${hrefOf("jobs", row.id)}>
              <span class="clip">${row.error_code ? html`<code>${row.error_code}</code> ${row.error_message}` : row.summary || row.id}</span>
              <span class="clip hint">${row.text}</span>
            </a></td>
            <td class="when">${row.task === "score" ? html`<span class="tag">${t.scoreOnly}</span>` : row.model}</td>
            <td>${row.channel}</td>
            <td class="number">${duration(row.end_to_end_ms)}</td>
            <td class="number">${fixed(row[filter.score ?? "rouge1"], filter.score === "bleu" ? 1 : 3)}</td>
          </tr>`)}
        </tbody>
      </table>
      ${!rows.length && !loading && !error && html`<p class="nothing">${t.nothing}</p>`}
    </div>
    <div class="bar">
      <span class="hint" role="status">${loading ? t.loading : rows.length ? `${done ? t.all(rows.length) : t.shown(rows.length)}${took ? ` · ${duration(took)}` : ""}` : ""}</span>
      <span class="spacer"></span>
      ${!done && rows.length > 0 && html`<${Button} disabled=${loading} onClick=${more}>${t.more}<//>`}
    </div>
    ${dialog && html`<${BulkOf} action=${dialog} filter=${filter} onClose=${() => setDialog("")} />`}
  </section>`;
}

/** The body that runs a prediction's text again. */
export function resubmission(/** @type {Row} */ row) {
  /** @type {Record<string, unknown>} */
  const params = {};
  try {
    for (const [name, value] of Object.entries(JSON.parse(row.params || "{}"))) if (value !== null) params[name] = value;
  } catch {
    // A row of another system may hold anything.
  }
  return {
    text: row.text,
    ...(row.reference ? { reference: row.reference } : {}),
    params,
    ...(row.served_as ? { model: row.served_as } : {}),
    metadata: Object.fromEntries(Object.entries(row.metadata ?? {}).slice(0, 16)),
  };
}

/** Resubmits or exports everything that the filter matches, after a confirmation that names the count. */
function BulkOf(/** @type {{action: string, filter: Record<string, string>, onClose: () => void}} */ { action, filter, onClose }) {
  // The window is fixed, so that the count stays true while new predictions arrive.
  const fixedFilter = useMemo(() => ({ ...filter, to: filter.to ?? new Date().toISOString() }), []);
  const run = useRef(randomId());
  const parts = useRef(/** @type {BlobPart[]} */ ([]));
  const countCall = { method: "GET", path: withQuery("/v1/predictions/count", fixedFilter) };
  const total = async (/** @type {AbortSignal} */ signal) => (await sendJson(countCall, signal)).count;
  const exportCall = (/** @type {string} */ after = "") => ({ method: "GET", path: withQuery("/v1/predictions", { ...fixedFilter, limit: EXPORT_PAGE, after, format: "csv" }) });
  const exportPage = async (/** @type {string | undefined} */ after, /** @type {AbortSignal} */ signal) => {
    const text = await (await send(exportCall(after), signal)).text();
    const end = text.indexOf("\n") + 1;
    const cursors = text.slice(end).match(/^"\d+~[^"]*"/gm) ?? [];
    parts.current.push(after ? text.slice(end) : text);
    return { done: cursors.length, next: cursors.length < EXPORT_PAGE ? undefined : cursors.at(-1)?.slice(1, -1) };
  };
  const resubmitCall = (/** @type {string} */ after = "") => ({ method: "POST", path: withQuery("/v1/predictions/resubmit", { ...fixedFilter, limit: RESUBMIT_PAGE, after, run: run.current }) });
  const resubmitPage = async (/** @type {string | undefined} */ after, /** @type {AbortSignal} */ signal) => {
    /** @type {import("../../types/rest").ResubmittedJobs} */
    const report = await sendJson(resubmitCall(after), signal);
    return { done: report.submitted.length, skipped: report.skipped.length, next: report.after, stopped: report.stopped };
  };
  return action === "export"
    ? html`<${Bulk} words=${t.bulkExport} total=${total} page=${exportPage} finish=${() => save(new Blob(parts.current, { type: "text/csv" }), "predictions.csv")} calls=${[countCall, exportCall()]} onClose=${onClose} />`
    : html`<${Bulk} words=${t.bulkResubmit} total=${total} page=${resubmitPage} calls=${[countCall, resubmitCall()]} onClose=${onClose} />`;
}
