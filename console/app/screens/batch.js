// One batch: its progress, its results, and their scores.
import { download, send, sendJson } from "../api.js";
import { uploadedRows } from "../batchstore.js";
import { count, duration, fixed, percent, time } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { score, scoreCall } from "../parts/scores.js";
import { Button, Copy, Curl, Dialog, Marked, Problem, Status } from "../parts/ui.js";
import { provenance } from "../provenance.js";
import { hrefOf, setQuery } from "../route.js";
import { T } from "../text.js";

/** @typedef {import("../../types/rest").BatchView} BatchView */
/** @typedef {import("../../types/rest").BatchCounts} BatchCounts */
/** @typedef {import("../../types/rest").BatchLine} BatchLine */
/** @typedef {import("../../types/rest").PairScores} PairScores */

const t = T.batches;
const STATES = /** @type {const} */ (["succeeded", "running", "queued", "failed", "refused", "expired", "cancelled", "gone"]);
const PAGE_ROWS = 100;
/** Rows up to which the results are loaded again while the batch runs. */
const LIVE_ROWS = 2_000;
/** Pairs in one request for scores. */
const PAIRS = 32;

/** The rows of a batch by state, as a bar. */
export function Segments(/** @type {{counts: BatchCounts}} */ { counts }) {
  const total = STATES.reduce((sum, name) => sum + counts[name], 0) || 1;
  const text = STATES.filter((name) => counts[name]).map((name) => `${count(counts[name])} ${T.status[name].toLowerCase()}`);
  return html`<span class="segments" role="img" aria-label=${text.join(", ")} title=${text.join(", ")}>
    ${STATES.map((name) => counts[name] > 0 && html`<i key=${name} class=${name} style=${{ width: `${(counts[name] / total) * 100}%` }}></i>`)}
  </span>`;
}

async function loadResults(/** @type {string} */ id, /** @type {AbortSignal} */ signal) {
  const headers = { accept: "application/x-ndjson" };
  const response = await send({ method: "GET", path: `/v1/batches/${id}/results`, headers }, signal);
  const text = await response.text();
  return /** @type {BatchLine[]} */ (text.split("\n").filter(Boolean).map((line) => JSON.parse(line)));
}

/** A batch and its results, kept up to date until all rows have ended. */
function useBatch(/** @type {string} */ id) {
  const [state, setState] = useState(/** @type {{batch?: BatchView, lines?: BatchLine[], error?: unknown, round: number}} */ ({ round: 0 }));
  useEffect(() => {
    const stop = new AbortController();
    /** @type {ReturnType<typeof setTimeout>} */
    let timer;
    let shown = "";
    const load = async () => {
      try {
        /** @type {BatchView} */
        const batch = await sendJson({ method: "GET", path: `/v1/batches/${id}` }, stop.signal);
        const counts = JSON.stringify(batch.counts);
        const ended = batch.counts.queued + batch.counts.running === 0 && batch.status !== "receiving";
        const wanted = counts !== shown && (ended || !shown || batch.rows <= LIVE_ROWS);
        const lines = wanted ? await loadResults(id, stop.signal) : undefined;
        if (wanted) shown = counts;
        setState((before) => ({ ...before, batch, lines: lines ?? before.lines, error: undefined }));
        if (!ended) timer = setTimeout(load, 1_500);
      } catch (error) {
        if (stop.signal.aborted) return;
        setState((before) => ({ ...before, error }));
        if (/** @type {any} */ (error).passes) timer = setTimeout(load, 3_000);
      }
    };
    load();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id, state.round]);
  return { ...state, reload: () => setState((before) => ({ ...before, round: before.round + 1 })) };
}

const METRICS = /** @type {const} */ (["rouge1", "rouge2", "rougeL", "bleu"]);
const METRIC_NAMES = { rouge1: "R-1", rouge2: "R-2", rougeL: "R-L", bleu: "BLEU" };

function metric(/** @type {PairScores | undefined} */ pair, /** @type {typeof METRICS[number]} */ name) {
  return name === "bleu" ? pair?.bleu : pair?.[name]?.fmeasure;
}

/** @param {{id: string, route: import("../route.js").Route}} props */
export function Batch({ id, route }) {
  const { batch, lines, error, reload } = useBatch(id);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [asking, setAsking] = useState(false);
  const [scores, setScores] = useState(/** @type {Map<number, PairScores>} */ (new Map()));
  const [scoring, setScoring] = useState("");
  const rows = useMemo(() => uploadedRows(id), [id]);
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  const path = `/v1/batches/${id}`;
  const cancelCall = { method: "DELETE", path };

  const attempt = async (/** @type {() => Promise<unknown>} */ work) => {
    setFailure(null);
    try {
      await work();
    } catch (problem) {
      if (!stop.current.signal.aborted) setFailure(problem);
    }
  };
  const cancel = () => attempt(async () => {
    setAsking(false);
    await send(cancelCall);
    reload();
  });
  const save = (/** @type {string} */ format) => attempt(() => download({ method: "GET", path: `${path}/results?format=${format}` }, `${id}.${format}`));
  const scorable = (lines ?? []).filter((line) => line.summary && rows?.[line.index ?? -1]?.reference?.trim());
  const compute = () => attempt(async () => {
    try {
      const all = new Map();
      for (let from = 0; from < scorable.length; from += PAIRS) {
        setScoring(`${count(from)} / ${count(scorable.length)}`);
        const part = scorable.slice(from, from + PAIRS);
        const pairs = part.map((line) => ({ summary: line.summary, reference: rows?.[line.index ?? 0]?.reference }));
        const call = { ...scoreCall([], "", false), json: { pairs, priority: "bulk" } };
        const report = await score(call, stop.current.signal);
        report.pairs.forEach((pair, index) => all.set(part[index].index, pair));
      }
      setScores(all);
    } finally {
      setScoring("");
    }
  });
  const open = batch ? batch.counts.queued + batch.counts.running : 0;
  const calls = [
    { method: "GET", path },
    { method: "GET", path: `${path}/results?format=csv` },
    cancelCall,
  ];
  return html`<section class="batch">
    <header class="head">
      <div>
        <p class="crumb"><a href="#/batches">${t.title}</a></p>
        <h1>${t.one} <code>${id}</code></h1>
      </div>
      <div class="row">
        <${Button} icon="download" disabled=${!batch} onClick=${() => save("csv")}>CSV<//>
        <${Button} icon="download" disabled=${!batch} onClick=${() => save("jsonl")}>JSONL<//>
        <${Button} needs="submit" disabled=${!scorable.length || !!scoring} title=${rows ? "" : t.scoresNeedRows} onClick=${compute}>${scoring ? `${T.summarize.scoring} ${scoring}` : t.compute}<//>
        ${open > 0 && html`<${Button} needs="submit" kind="danger" icon="stop" onClick=${() => setAsking(true)}>${t.cancelRest}<//>`}
        <${Curl} calls=${calls} />
      </div>
    </header>
    <${Problem} error=${error ?? failure} retry=${error ? reload : undefined} />
    ${asking &&
    html`<${Dialog} title=${t.cancelRest} onClose=${() => setAsking(false)}>
      <p>${t.cancelConfirm(open)}</p>
      <div class="row end"><${Button} onClick=${() => setAsking(false)}>${t.keep}<//><${Button} kind="danger" onClick=${cancel}>${t.cancelCount(open)}<//></div>
    <//>`}
    ${batch && html`<${Overview} batch=${batch} open=${open} />`}
    ${scores.size > 0 && html`<${Means} scores=${scores} />`}
    ${batch && lines && html`<${Results} lines=${lines} counts=${batch.counts} rows=${rows} scores=${scores} route=${route} stale=${open > 0 && batch.rows > LIVE_ROWS} reload=${reload} />`}
  </section>`;
}

function Overview(/** @type {{batch: BatchView, open: number}} */ { batch, open }) {
  return html`<div class="card padded overview">
    <div class="row">
      <${Status} status=${batch.status} />
      <strong class="number">${percent(batch.progress)}</strong>
      <span class="hint">${t.ofRows(batch.rows - open, batch.rows)}</span>
      ${open > 0 && batch.eta_seconds ? html`<span class="hint">${T.summarize.eta(duration(batch.eta_seconds * 1_000))}</span>` : ""}
      <span class="spacer"></span>
      <span class="hint">${t.from} ${time(batch.created_at)}${batch.finished_at ? html`, ${t.took} ${duration(Date.parse(batch.finished_at) - Date.parse(batch.created_at))}` : html`, ${t.until} ${time(batch.deadline)}`}</span>
    </div>
    <${Segments} counts=${batch.counts} />
    ${batch.error && html`<${Problem} error=${`${batch.error.message} (${batch.error.code})`} />`}
  </div>`;
}

function Means(/** @type {{scores: Map<number, PairScores>}} */ { scores }) {
  const pairs = [...scores.values()].filter((pair) => pair.rouge1);
  return html`<dl class="figures">
    ${METRICS.map((name) => {
      const values = pairs.map((pair) => metric(pair, name) ?? 0);
      const mean = values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
      return html`<div><dt>${METRIC_NAMES[name]} <span class="hint">${t.mean}</span></dt><dd>${fixed(mean, name === "bleu" ? 1 : 3)}</dd></div>`;
    })}
    <div><dt>${t.pairs}</dt><dd>${count(pairs.length)}</dd></div>
  </dl>`;
}

/** @type {Record<string, (a: any, b: any) => number>} */
const ORDERS = {
  index: (a, b) => a.index - b.index,
  status: (a, b) => a.status.localeCompare(b.status) || a.index - b.index,
  length: (a, b) => (b.summary?.length ?? 0) - (a.summary?.length ?? 0),
};

function Results(/** @type {any} */ { lines, counts, rows, scores, route, stale, reload }) {
  const { query } = route;
  const state = query.get("state") ?? "";
  const text = query.get("q") ?? "";
  const order = query.get("sort") ?? "index";
  const page = Number(query.get("page") ?? 0);
  const [openRow, setOpenRow] = useState(-1);
  const isRefused = (/** @type {BatchLine} */ line) => !line.id && line.index !== undefined;
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const kept = lines.filter((/** @type {BatchLine} */ line) => {
      if (line.index === undefined || line.index === null) return false;
      if (state && (isRefused(line) ? "refused" : line.status) !== state) return false;
      const content = `${line.summary ?? ""} ${line.error?.message ?? ""} ${line.id ?? ""} ${rows?.[line.index]?.article ?? ""}`;
      return !wanted || content.toLowerCase().includes(wanted);
    });
    const by = ORDERS[order] ?? ((/** @type {any} */ a, /** @type {any} */ b) => (metric(scores.get(a.index), /** @type {any} */ (order)) ?? 9) - (metric(scores.get(b.index), /** @type {any} */ (order)) ?? 9));
    return kept.sort(by);
  }, [lines, rows, state, text, order, scores]);
  const shown = found.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);
  const sorter = (/** @type {string} */ name, /** @type {string} */ label) =>
    html`<button type="button" class="sort" aria-pressed=${order === name} onClick=${() => setQuery({ sort: name, page: "" })}>${label}</button>`;
  const hasScores = scores.size > 0;
  return html`<section class="stack">
    <div class="bar">
      <input type="search" class="search" placeholder=${t.search} aria-label=${t.search} value=${text} onInput=${(/** @type {any} */ event) => setQuery({ q: event.target.value, page: "" })} />
      <div class="chips" role="group" aria-label=${t.state}>
        ${STATES.filter((name) => counts[name] || name === state).map(
          (name) => html`<button type="button" class=${`chip ${name}`} aria-pressed=${state === name} onClick=${() => setQuery({ state: state === name ? "" : name, page: "" })}>${T.status[name]} <b>${count(counts[name])}</b></button>`,
        )}
      </div>
      ${stale && html`<${Button} icon="refresh" onClick=${reload}>${t.refresh}<//>`}
    </div>
    <div class="table-box">
      <table class="list results-list">
        <thead><tr>
          <th class="number">${sorter("index", "#")}</th>
          <th>${sorter("status", t.state)}</th>
          <th class="grow">${t.summary}</th>
          ${hasScores ? METRICS.map((name) => html`<th class="number">${sorter(name, METRIC_NAMES[name])}</th>`) : html`<th class="number">${sorter("length", t.length)}</th>`}
        </tr></thead>
        <tbody>
          ${shown.map((/** @type {BatchLine} */ line) => {
            const index = line.index ?? 0;
            const expanded = openRow === index;
            return html`<tr key=${index} class=${`clickable ${expanded ? "expanded" : ""}`} onClick=${() => setOpenRow(expanded ? -1 : index)}>
                <td class="number"><button type="button" class="expand" aria-expanded=${expanded} aria-label=${`${t.row} ${index + 1}`}>${index + 1}</button></td>
                <td><${Status} status=${isRefused(line) ? "refused" : line.status} /></td>
                <td class="grow"><span class="clip">${line.summary ?? line.error?.message ?? ""}</span></td>
                ${hasScores
                  ? METRICS.map((name) => html`<td class="number">${fixed(metric(scores.get(index), name), name === "bleu" ? 1 : 3)}</td>`)
                  : html`<td class="number">${line.summary ? count(line.summary.length) : ""}</td>`}
              </tr>
              ${expanded && html`<tr class="detail"><td colspan=${hasScores ? 7 : 4}><${Detail} line=${line} row=${rows?.[index]} /></td></tr>`}`;
          })}
        </tbody>
      </table>
    </div>
    <div class="bar">
      <span class="hint">${t.found(found.length)}</span>
      <span class="spacer"></span>
      ${found.length > PAGE_ROWS &&
      html`<${Button} disabled=${page === 0} onClick=${() => setQuery({ page: page - 1 || "" }, {})}>${t.previous}<//>
        <${Button} disabled=${(page + 1) * PAGE_ROWS >= found.length} onClick=${() => setQuery({ page: page + 1 }, {})}>${t.next}<//>`}
    </div>
  </section>`;
}

function Detail(/** @type {{line: BatchLine, row?: {article: string, reference: string}}} */ { line, row }) {
  const found = line.summary && row ? provenance(line.summary, row.article) : null;
  const sources = found?.sentences.flatMap((sentence) => sentence.sources.map((span) => ({ ...span, kind: "copied" }))) ?? [];
  return html`<div class="detail-grid">
    <div>
      <h3>${t.summary}</h3>
      ${line.summary ? html`<p class="prose"><${Marked} text=${line.summary} marks=${found?.marks ?? []} /></p>` : html`<${Problem} error=${line.error ? `${line.error.message} (${line.error.code})` : T.status[/** @type {keyof typeof T.status} */ (line.status)]} />`}
      ${row?.reference && html`<h3>${t.reference}</h3><p class="prose">${row.reference}</p>`}
      <p class="row hint">
        ${line.id && html`<a href=${hrefOf("jobs", line.id)}>${T.summarize.openJob}</a>`}
        <span>${t.line} ${line.line}</span>
        ${Object.entries(line.metadata ?? {}).map(([name, value]) => html`<code>${name}=${value}</code>`)}
        ${line.summary && html`<${Copy} text=${line.summary} />`}
      </p>
    </div>
    ${row && html`<div><h3>${t.article}</h3><div class="prose long"><${Marked} text=${row.article} marks=${sources} /></div></div>`}
  </div>`;
}
