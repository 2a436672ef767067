// Jobs that wait or run: search, filters, and cancelling one or all that match.
import { send, sendJson, withQuery } from "../api.js";
import { ago } from "../format.js";
import { html, useEffect, useMemo, useState } from "../lib.js";
import { Button, Curl, Lazy, Problem, Status, useLoad } from "../parts/ui.js";
import { hrefOf, setQuery } from "../route.js";
import { T } from "../text.js";
import { Bulk } from "./bulk.js";
import { Views } from "./jobs.js";

/** @typedef {import("../../types/rest").QueuedJobView} QueuedJobView */
/** @typedef {import("../../types/rest").QueuedJobList} QueuedJobList */

const t = T.jobs;
const PAGE = 100;
const BULK_PAGE = 500;
const REFRESH_MS = 5_000;
const FILTERS = ["q", "model", "lane", "tenant"];

/** @param {{route: import("../route.js").Route}} props */
export function Waiting({ route }) {
  const { query } = route;
  const filter = useMemo(() => Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""])), [query.toString()]);
  const path = withQuery("/v1/jobs", { ...filter, limit: PAGE });
  const { data, error, loading, reload } = useLoad((signal) => sendJson({ method: "GET", path }, signal), [path]);
  const [more, setMore] = useState(/** @type {{of: any, jobs: QueuedJobView[], next?: number | null} | null} */ (null));
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [bulk, setBulk] = useState(false);
  // Further pages belong to the first page that they were loaded after.
  const further = more?.of === data ? more : null;
  /** @type {QueuedJobView[]} */
  const jobs = [...(data?.jobs ?? []), ...(further?.jobs ?? [])];
  const next = further ? further.next : data?.next;
  useEffect(() => {
    // Further pages would be lost.
    if (further || bulk) return undefined;
    const timer = setInterval(() => !document.hidden && reload(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [Boolean(further), bulk, path]);
  const active = FILTERS.some((name) => filter[name]);
  const loadMore = async () => {
    setFailure(null);
    try {
      const page = await sendJson({ method: "GET", path: withQuery("/v1/jobs", { ...filter, limit: PAGE, after: next }) });
      setMore({ of: data, jobs: [...(further?.jobs ?? []), ...page.jobs], next: page.next });
    } catch (problem) {
      setFailure(problem);
    }
  };
  const cancel = async (/** @type {string} */ id) => {
    setFailure(null);
    try {
      await send({ method: "DELETE", path: `/v1/jobs/${id}` });
    } catch (problem) {
      setFailure(problem);
    }
    reload();
  };
  const all = async (/** @type {AbortSignal} */ signal, /** @type {(n: number) => void} */ found) => {
    let n = 0;
    for (let after = 0; ; ) {
      /** @type {QueuedJobList} */
      const page = await sendJson({ method: "GET", path: withQuery("/v1/jobs", { ...filter, limit: BULK_PAGE, after }) }, signal);
      found((n += page.jobs.length));
      if (!page.next) return n;
      after = page.next;
    }
  };
  const cancelCall = (/** @type {number | undefined} */ after) => ({ method: "POST", path: withQuery("/v1/jobs/cancel", { ...filter, limit: BULK_PAGE, after }) });
  const cancelPage = async (/** @type {number | undefined} */ after, /** @type {AbortSignal} */ signal) => {
    /** @type {import("../../types/rest").CancelledJobs} */
    const report = await sendJson(cancelCall(after), signal);
    return { done: report.cancelled.length, skipped: report.ended, next: report.next, stopped: report.stopped };
  };
  return html`<section class="jobs">
    <header class="head">
      <div><h1>${t.title}</h1><p class="hint">${t.waitingHint}</p></div>
      <div class="row">
        <${Button} icon="refresh" onClick=${reload}>${T.analytics.refresh}<//>
        <${Button} needs="submit" kind="danger" disabled=${!jobs.length} onClick=${() => setBulk(true)}>${t.cancelAll}<//>
        <${Curl} calls=${[{ method: "GET", path }, cancelCall(undefined)]} />
      </div>
    </header>
    <div class="controls">
      <${Views} waiting />
      <${Lazy} type="search" class="search" placeholder=${t.searchWaiting} aria-label=${t.searchWaiting} value=${filter.q} onValue=${(/** @type {string} */ q) => setQuery({ q })} />
      <${Lazy} type="text" class="short" placeholder=${t.fields.model} aria-label=${t.fields.model} value=${filter.model} onValue=${(/** @type {string} */ model) => setQuery({ model: model.trim() })} />
      <select aria-label=${t.fields.lane} value=${filter.lane} onChange=${(/** @type {any} */ event) => setQuery({ lane: event.target.value })}><option value="">${t.anyLane}</option>${/** @type {const} */ (["high", "normal", "bulk"]).map((lane) => html`<option value=${lane}>${T.choices[lane]}</option>`)}</select>
      ${active && html`<${Button} kind="quiet" onClick=${() => setQuery(Object.fromEntries(FILTERS.map((name) => [name, ""])))}>${t.clear}<//>`}
    </div>
    <${Problem} error=${failure ?? error} retry=${error ? reload : undefined} />
    <div class="table-box" aria-busy=${loading && !data}>
      <table class="list job-list waiting-list">
        <thead><tr><th>${t.waitsSince}</th><th>${t.state}</th><th class="grow">${t.job}</th><th>${t.fields.model}</th><th>${t.fields.lane}</th><td></td></tr></thead>
        <tbody>
          ${jobs.map((job) => html`<tr key=${job.id}>
            <td class="when">${ago(job.submitted_at)}</td>
            <td><${Status} status=${job.status} /></td>
            <td class="grow"><a class="open" href=${hrefOf("jobs", job.id)}><span class="clip">${job.text || job.id}</span><span class="clip hint">${job.id} · ${job.tenant}${job.deadline ? ` · ${t.expires(new Date(job.deadline).toLocaleString())}` : ""}</span></a></td>
            <td class="when">${job.model}</td>
            <td>${T.choices[job.lane]}</td>
            <td class="actions"><${Button} needs="submit" aria-label=${`${T.cancel} ${job.id}`} onClick=${() => cancel(job.id)}>${T.cancel}<//></td>
          </tr>`)}
        </tbody>
      </table>
      ${!jobs.length && !loading && !error && html`<p class="nothing">${active ? t.noWaitingMatch : t.noWaiting}</p>`}
    </div>
    <div class="bar">
      <span class="hint" role="status">${loading && !data ? t.loading : jobs.length ? (next ? t.firstWaiting(jobs.length) : t.all(jobs.length)) : ""}</span>
      <span class="spacer"></span>
      ${next && html`<${Button} onClick=${loadMore}>${t.more}<//>`}
    </div>
    ${bulk && html`<${Bulk} words=${t.bulkCancel} total=${all} page=${cancelPage} calls=${[cancelCall(undefined)]} danger onClose=${() => { setBulk(false); reload(); }} />`}
  </section>`;
}
