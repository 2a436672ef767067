// Every prediction: search, filters, pages, and what to do with all that match.
import { send, sendJson, withQuery } from "../api.js";
import { count, duration, fixed, parseTime, time } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { offer } from "../parts/palette.js";
import { Button, Curl, Dialog, Field, Problem, Status } from "../parts/ui.js";
import { hrefOf, setQuery } from "../route.js";
import { randomId } from "../storage.js";
import { T } from "../text.js";
import { Job } from "./job.js";

/** @typedef {Record<string, any>} Row */

const t = T.jobs;
const PAGE = 50;
/** Rows in one request of a bulk action. */
const BULK_PAGE = 200;
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
  return route.id ? html`<${Job} key=${route.id} id=${route.id} />` : html`<${List} route=${route} />`;
}

/** A text field that reports its value after a pause. */
function Lazy(/** @type {any} */ { value, onValue, ...rest }) {
  const [text, setText] = useState(value);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  useEffect(() => setText(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (/** @type {any} */ event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onValue(next), 350);
  };
  return html`<input ...${rest} value=${text} onInput=${change} />`;
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
        <${Button} onClick=${() => setDialog("resubmit")} disabled=${!rows.length}>${t.resubmit}<//>
        <${Button} icon="download" onClick=${() => setDialog("export")} disabled=${!rows.length}>${t.export}<//>
        <${Curl} calls=${[{ method: "GET", path }]} />
      </div>
    </header>
    <div class="controls">
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
            <td><${Status} status=${row.outcome} />${row.attempt > 1 ? html` <span class="tag" title=${T.summarize.attempt(row.attempt)}>×${row.attempt}</span>` : ""}</td>
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
    ${dialog && html`<${Bulk} action=${dialog} filter=${filter} onClose=${() => setDialog("")} />`}
  </section>`;
}

/** All rows of a filter, page by page. */
async function* allRows(/** @type {Record<string, string>} */ filter, /** @type {AbortSignal} */ signal, limit = 1_000) {
  for (let after = ""; ; ) {
    /** @type {{data: Row[]}} */
    const page = await sendJson({ method: "GET", path: withQuery("/v1/predictions", { ...filter, limit, after }) }, signal);
    yield page.data;
    if (page.data.length < limit) return;
    after = page.data.at(-1)?.cursor;
  }
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
function Bulk(/** @type {{action: string, filter: Record<string, string>, onClose: () => void}} */ { action, filter, onClose }) {
  // The window is fixed, so that the count stays true while new predictions arrive.
  const fixedFilter = useMemo(() => ({ ...filter, to: filter.to ?? new Date().toISOString() }), []);
  const [total, setTotal] = useState(/** @type {number | null} */ (null));
  const [done, setDone] = useState(0);
  const [skipped, setSkipped] = useState(0);
  const [state, setState] = useState("counting");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const stop = useRef(new AbortController());
  const run = useRef(randomId());
  useEffect(() => {
    const { signal } = stop.current;
    (async () => {
      let found = 0;
      for await (const rows of allRows(fixedFilter, signal)) setTotal((found += rows.length));
      setTotal(found);
      setState("ready");
    })().catch((failure) => !signal.aborted && setError(failure));
    return () => stop.current.abort();
  }, []);
  const exportAll = async () => {
    const { signal } = stop.current;
    /** @type {BlobPart[]} */
    const parts = [];
    for (let after = ""; ; ) {
      const path = withQuery("/v1/predictions", { ...fixedFilter, limit: 1_000, after, format: "csv" });
      const text = await (await send({ method: "GET", path }, signal)).text();
      const end = text.indexOf("\n") + 1;
      parts.push(after ? text.slice(end) : text);
      const cursors = text.slice(end).match(/^"\d+~[^"]*"/gm) ?? [];
      setDone((before) => before + cursors.length);
      if (cursors.length < 1_000) break;
      after = cursors.at(-1)?.slice(1, -1) ?? "";
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
    link.download = "predictions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const resubmitAll = async () => {
    const { signal } = stop.current;
    for await (const rows of allRows(fixedFilter, signal, BULK_PAGE)) {
      for (const { job_id: id, task } of rows) {
        signal.throwIfAborted();
        const row = task === "summarize" ? await sendJson({ method: "GET", path: `/v1/predictions/${id}` }, signal) : null;
        if (!row || row.text_policy !== "full" || !row.text) setSkipped((before) => before + 1);
        else {
          // A repeated try of this run submits no job twice.
          const headers = { "idempotency-key": `"again-${id}-${run.current}"` };
          await send({ method: "POST", path: "/v1/summaries", headers, json: { ...resubmission(row), priority: "bulk" } }, signal);
          setDone((before) => before + 1);
        }
      }
    }
  };
  const start = async () => {
    setState("running");
    setError(null);
    setDone(0);
    setSkipped(0);
    try {
      await (action === "export" ? exportAll() : resubmitAll());
      setState("done");
    } catch (failure) {
      if (stop.current.signal.aborted) return;
      setError(failure);
      setState("ready");
    }
  };
  const words = action === "export" ? t.bulkExport : t.bulkResubmit;
  return html`<${Dialog} title=${words.title} onClose=${onClose}>
    <div class="stack">
      <p>${state === "counting" ? `${t.counting} ${total ? count(total) : ""}` : words.ask(total ?? 0)}</p>
      ${(state === "running" || state === "done") && html`<progress max=${total || 1} value=${done + skipped}></progress><p role="status">${words.done(done)}${skipped ? `, ${t.skipped(skipped)}` : ""}</p>`}
      <${Problem} error=${error} />
      <div class="row end">
        <${Button} onClick=${onClose}>${state === "done" ? T.close : T.cancel}<//>
        ${state !== "done" && html`<${Button} kind="primary" disabled=${state !== "ready" || !total} onClick=${start}>${words.button(total ?? 0)}<//>`}
      </div>
    </div>
  <//>`;
}
