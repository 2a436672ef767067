// The queue, the workers and the dead letters.
import { useAccess } from "../access.js";
import { ApiError, send, sendJson, withQuery } from "../api.js";
import { ago, bytes, count, duration, fixed, time } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { Button, Copy, Curl, Dialog, Problem, useLoad, usePolled } from "../parts/ui.js";
import { hrefOf, setQuery } from "../route.js";
import { T } from "../text.js";
import { Configuration, Health, SampleData } from "./system.js";

/** @typedef {import("../../types/rest").QueueView} QueueView */
/** @typedef {import("../../types/rest").DeadLetterView} DeadLetterView */

const t = T.operations;
const PAGE = 50;

/** @param {{route: import("../route.js").Route}} props */
export function Operations({ route }) {
  const { data, error, reload } = usePolled("/v1/queue");
  const { may } = useAccess();
  return html`<section class="operations">
    <header class="head">
      <div><h1>${t.title}</h1><p class="hint">${t.hint}</p></div>
      <div class="row"><a class="button" href="/metrics" target="_blank" rel="noopener">${t.metrics}</a><a class="button" href="/docs" target="_blank" rel="noopener">${t.docs}</a><${Curl} calls=${[{ method: "GET", path: "/v1/queue" }, { method: "GET", path: "/v1/models" }, { method: "GET", path: "/v1/status" }]} /></div>
    </header>
    <${Health} />
    <${Problem} error=${error} retry=${reload} />
    ${data && html`<${Queue} queue=${data} />`}
    ${may("operate") ? html`<${DeadLetters} route=${route} />` : html`<p class="hint">${t.deadNeedsRight}</p>`}
    ${may("all_tenants") ? html`<${SampleData} /><${Configuration} />` : html`<p class="hint">${t.forOperators}</p>`}
  </section>`;
}

function Queue(/** @type {{queue: QueueView}} */ { queue }) {
  const top = Math.max(...queue.lanes.map((lane) => lane.jobs), 1);
  return html`<div class="columns even">
    <section class="stack">
      <h2>${t.queue}</h2>
      <div class="table-box"><table class="list queue-list">
        <thead><tr><th>${t.model}</th><th>${t.lane}</th><th class="grow">${t.depth}</th><th class="number">${t.jobs}</th><th class="number">${t.oldest}</th><th class="number">${t.drain}</th></tr></thead>
        <tbody>
          ${queue.lanes.map((lane) => html`<tr key=${`${lane.model}/${lane.lane}`}>
            <td>${lane.model}</td><td>${T.choices[lane.lane]}</td>
            <td class="grow"><span class="segments"><i class="running" style=${{ width: `${(lane.jobs / top) * 100}%` }}></i></span></td>
            <td class="number">${count(lane.jobs)}</td>
            <td class="number">${lane.oldest_at ? ago(lane.oldest_at) : "–"}</td>
            <td class="number">${lane.jobs && lane.drain_seconds !== null && lane.drain_seconds !== undefined ? duration(lane.drain_seconds * 1_000) : "–"}</td>
          </tr>`)}
        </tbody>
      </table>${!queue.lanes.length && html`<p class="nothing">${t.noLanes}</p>`}</div>
    </section>
    <section class="stack">
      <h2>${t.workers} <span class="hint">${count(queue.workers.length)}</span></h2>
      <div class="table-box"><table class="list">
        <thead><tr><th>${t.worker}</th><th>${t.model}</th><th>${t.device}</th><th class="number">${t.busy}</th><th class="number">${t.pace}</th><th class="number">${t.memory}</th></tr></thead>
        <tbody>
          ${queue.workers.map((worker) => html`<tr key=${worker.worker}>
            <td><a href=${hrefOf("jobs", "", { worker: worker.worker })}>${worker.worker}</a></td>
            <td>${worker.model.name} <code>${worker.model.revision}</code></td>
            <td>${worker.device}${worker.precision ? ` ${worker.precision}` : ""}</td>
            <td class="number">${count(worker.in_flight)} / ${count(worker.max_batch)}</td>
            <td class="number">${worker.pace ? fixed(worker.pace.jobs_per_second, 1) : "–"}</td>
            <td class="number">${worker.resident_bytes ? bytes(worker.resident_bytes) : "–"}</td>
          </tr>`)}
        </tbody>
      </table>${!queue.workers.length && html`<p class="nothing">${T.summarize.noWorker}</p>`}</div>
    </section>
  </div>`;
}

/** All dead letters of a filter. */
async function* allLetters(/** @type {Record<string, string>} */ filter, /** @type {AbortSignal} */ signal) {
  for (let before = ""; ; ) {
    /** @type {{dead_letters: DeadLetterView[], next?: number | null}} */
    const page = await sendJson({ method: "GET", path: withQuery("/v1/dead-letters", { ...filter, limit: 500, before }) }, signal);
    yield page.dead_letters;
    if (!page.next) return;
    before = String(page.next);
  }
}

/** @param {{route: import("../route.js").Route}} props */
function DeadLetters({ route }) {
  const { query } = route;
  const filter = useMemo(() => Object.fromEntries(["q", "kind", "code"].map((name) => [name, query.get(name) ?? ""])), [query.toString()]);
  const path = withQuery("/v1/dead-letters", { ...filter, limit: PAGE });
  const [more, setMore] = useState(/** @type {{letters: DeadLetterView[], next?: number | null} | null} */ (null));
  const { data, error, loading, reload } = useLoad((signal) => sendJson({ method: "GET", path }, signal), [path]);
  const [open, setOpen] = useState(/** @type {number | null} */ (null));
  const [bulk, setBulk] = useState("");
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [note, setNote] = useState(/** @type {any} */ (null));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  useEffect(() => setMore(null), [data]);
  const letters = [...(data?.dead_letters ?? []), ...(more?.letters ?? [])];
  const next = more ? more.next : data?.next;
  const kinds = [...new Set(letters.map((letter) => letter.kind))];
  const codes = [...new Set(letters.map((letter) => letter.reason.code))];
  const act = async (/** @type {() => Promise<any>} */ work) => {
    setFailure(null);
    setNote(null);
    try {
      setNote(await work());
      setOpen(null);
      reload();
    } catch (problem) {
      setFailure(problem);
    }
  };
  const replay = (/** @type {number} */ sequence) => act(async () => {
    const { job_id: id } = await sendJson({ method: "POST", path: `/v1/dead-letters/${sequence}/replay` });
    return id ? html`${t.replayedAs} <a href=${hrefOf("jobs", id)}>${id}</a>` : t.replayedWebhook;
  });
  const remove = (/** @type {number} */ sequence) => act(async () => {
    await send({ method: "DELETE", path: `/v1/dead-letters/${sequence}` });
    return t.deleted(1);
  });
  const loadMore = async () => {
    const page = await sendJson({ method: "GET", path: withQuery(path, {}) + `&before=${next}` }).catch(setFailure);
    if (page) setMore({ letters: [...(more?.letters ?? []), ...page.dead_letters], next: page.next });
  };
  const typed = (/** @type {any} */ event) => {
    clearTimeout(timer.current);
    const q = event.target.value;
    timer.current = setTimeout(() => setQuery({ q }), 350);
  };
  return html`<section class="stack dead">
    <div class="head">
      <h2>${t.dead}</h2>
      <div class="row">
        <${Button} icon="refresh" onClick=${reload}>${T.analytics.refresh}<//>
        <${Button} needs="operate" disabled=${!letters.length} onClick=${() => setBulk("replay")}>${t.replayAll}<//>
        <${Button} needs="operate" kind="danger" disabled=${!letters.length} onClick=${() => setBulk("delete")}>${t.deleteAll}<//>
        <${Curl} calls=${[{ method: "GET", path }, { method: "POST", path: "/v1/dead-letters/SEQUENCE/replay" }, { method: "DELETE", path: "/v1/dead-letters/SEQUENCE" }]} />
      </div>
    </div>
    <div class="controls">
      <input type="search" class="search" placeholder=${t.search} aria-label=${t.search} value=${filter.q} onInput=${typed} />
      <select aria-label=${t.kind} value=${filter.kind} onChange=${(/** @type {any} */ event) => setQuery({ kind: event.target.value })}><option value="">${t.allKinds}</option>${[...new Set([...kinds, filter.kind])].filter(Boolean).map((kind) => html`<option value=${kind}>${kind}</option>`)}</select>
      <select aria-label=${t.code} value=${filter.code} onChange=${(/** @type {any} */ event) => setQuery({ code: event.target.value })}><option value="">${t.allCodes}</option>${[...new Set([...codes, filter.code])].filter(Boolean).map((code) => html`<option value=${code}>${code}</option>`)}</select>
    </div>
    <${Problem} error=${failure ?? error} retry=${error ? reload : undefined} />
    ${note && html`<p class="note good" role="status">${note}</p>`}
    <div class="table-box" aria-busy=${loading}>
      <table class="list">
        <thead><tr><th>${t.died}</th><th>${t.kind}</th><th class="grow">${t.reason}</th><th class="number">${t.attempts}</th><td></td></tr></thead>
        <tbody>
          ${letters.map((letter) => html`<tr key=${letter.sequence}>
            <td>${time(letter.died_at)}</td>
            <td>${letter.kind}</td>
            <td class="grow"><button type="button" class="expand" onClick=${() => setOpen(letter.sequence)}><span class="clip"><code>${letter.reason.code}</code> ${letter.reason.message}</span></button><span class="clip hint">${letter.subject} ${letter.body}</span></td>
            <td class="number">${count(letter.attempts)}</td>
            <td class="actions"><${Button} needs="operate" disabled=${!letter.replayable} onClick=${() => replay(letter.sequence)}>${t.replay}<//></td>
          </tr>`)}
        </tbody>
      </table>
      ${!letters.length && !loading && !error && html`<p class="nothing">${filter.q || filter.kind || filter.code ? t.noMatch : t.noDead}</p>`}
    </div>
    ${next && html`<div class="bar"><span class="spacer"></span><${Button} onClick=${loadMore}>${T.jobs.more}<//></div>`}
    ${open !== null && html`<${Letter} sequence=${open} onReplay=${() => replay(open)} onDelete=${() => remove(open)} onClose=${() => setOpen(null)} />`}
    ${bulk && html`<${Bulk} action=${bulk} filter=${filter} onClose=${() => { setBulk(""); reload(); }} />`}
  </section>`;
}

function Letter(/** @type {any} */ { sequence, onReplay, onDelete, onClose }) {
  const path = `/v1/dead-letters/${sequence}`;
  const { data, error } = useLoad((signal) => sendJson({ method: "GET", path }, signal), [sequence]);
  const [sure, setSure] = useState(false);
  let body = data?.body ?? data?.body_base16 ?? "";
  try {
    body = JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    // It is shown as it is.
  }
  return html`<${Dialog} title=${`${t.letter} ${sequence}`} class="wide" onClose=${onClose}>
    <div class="stack">
      <${Problem} error=${error} />
      ${data && html`
        <p><a href=${`/errors/${data.reason.code}`} target="_blank" rel="noopener">${data.reason.code}</a> ${data.reason.message}</p>
        <p class="hint">${data.subject} · ${t.attempts} ${data.attempts} · ${t.submitted} ${time(data.submitted_at)} · ${t.died} ${time(data.died_at)}${data.job_id && html` · <a href=${hrefOf("jobs", data.job_id)} onClick=${onClose}>${T.summarize.openJob}</a>`}</p>
        <div class="code"><pre>${body || t.noBody}</pre><${Copy} text=${body} /></div>
        <div class="row end">
          ${sure ? html`<span>${t.sure}</span><${Button} onClick=${() => setSure(false)}>${T.cancel}<//><${Button} kind="danger" onClick=${onDelete}>${t.deleteOne}<//>` : html`<${Button} needs="operate" kind="danger" onClick=${() => setSure(true)}>${t.deleteOne}<//><${Button} needs="operate" kind="primary" disabled=${!data.replayable} onClick=${onReplay}>${t.replay}<//>`}
        </div>`}
    </div>
  <//>`;
}

/** Replays or deletes all dead letters of a filter, after a confirmation that names the count. */
function Bulk(/** @type {any} */ { action, filter, onClose }) {
  const [list, setList] = useState(/** @type {DeadLetterView[] | null} */ (null));
  const [done, setDone] = useState(0);
  const [failed, setFailed] = useState(0);
  const [state, setState] = useState("ready");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const stop = useRef(new AbortController());
  useEffect(() => {
    const { signal } = stop.current;
    (async () => {
      /** @type {DeadLetterView[]} */
      const all = [];
      for await (const letters of allLetters(filter, signal)) all.push(...letters);
      setList(action === "replay" ? all.filter((letter) => letter.replayable) : all);
    })().catch((problem) => !signal.aborted && setError(problem));
    return () => stop.current.abort();
  }, []);
  const n = list?.length ?? 0;
  const words = action === "replay" ? t.bulkReplay : t.bulkDelete;
  const start = async () => {
    setState("running");
    for (const { sequence } of list ?? []) {
      const path = `/v1/dead-letters/${sequence}`;
      const call = action === "replay" ? { method: "POST", path: `${path}/replay` } : { method: "DELETE", path };
      try {
        await send(call, stop.current.signal);
        setDone((before) => before + 1);
      } catch (problem) {
        if (stop.current.signal.aborted) return;
        setFailed((before) => before + 1);
        setError(problem);
        if (problem instanceof ApiError && problem.passes) break;
      }
    }
    setState("done");
  };
  return html`<${Dialog} title=${words.title} onClose=${onClose}>
    <div class="stack">
      <p>${list ? words.ask(n) : T.jobs.counting}</p>
      ${state !== "ready" && html`<progress max=${n || 1} value=${done + failed}></progress><p role="status">${words.done(done)}${failed ? `, ${t.notDone(failed)}` : ""}</p>`}
      <${Problem} error=${error} />
      <div class="row end">
        <${Button} onClick=${onClose}>${state === "done" ? T.close : T.cancel}<//>
        ${state !== "done" && html`<${Button} kind=${action === "delete" ? "danger" : "primary"} disabled=${!n || state === "running"} onClick=${start}>${words.button(n)}<//>`}
      </div>
    </div>
  <//>`;
}
