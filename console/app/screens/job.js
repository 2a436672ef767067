// One job: its state while it runs, its prediction afterwards.
import { ApiError, send, sendJson, withQuery } from "../api.js";
import { isFinal, useJob } from "../follow.js";
import { count, fixed, percent } from "../format.js";
import { html, useEffect, useMemo, useState } from "../lib.js";
import { History, Times } from "../parts/history.js";
import { Button, Copy, Curl, Marked, Problem, Status, useLoad } from "../parts/ui.js";
import { provenance } from "../provenance.js";
import { go, hrefOf } from "../route.js";
import { rememberText } from "../storage.js";
import { T } from "../text.js";
import { resubmission } from "./jobs.js";

/** @typedef {Record<string, any>} Row */

const t = T.jobs;
const SCORES = { rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeL: "ROUGE-L", rougeLsum: "ROUGE-Lsum" };
const SIGNALS = ["coverage", "density", "compression_ratio", "novel_unigrams", "novel_bigrams", "novel_trigrams", "repetition_rate"];

/** @param {{id: string}} props */
export function Job({ id }) {
  const followed = useJob(id);
  const [round, setRound] = useState(0);
  const { job } = followed;
  const ended = isFinal(job) || followed.error instanceof ApiError;
  // The monitor stores the row a moment after the result.
  const { data: row, error, reload } = useLoad(
    async (signal) => {
      for (let attempt = 0; ; attempt += 1) {
        try {
          return await sendJson({ method: "GET", path: `/v1/predictions/${id}` }, signal);
        } catch (failure) {
          if (!ended && failure instanceof ApiError && failure.status === 404) return null;
          if (attempt > 4 || !(failure instanceof ApiError) || failure.status !== 404) throw failure;
          await new Promise((resolve) => setTimeout(resolve, 600));
        }
      }
    },
    [id, ended, round],
  );
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [reference, setReference] = useState("");
  const [sent, setSent] = useState(false);
  useEffect(() => setReference(row?.reference ?? ""), [row?.reference]);
  const cancelCall = { method: "DELETE", path: `/v1/jobs/${id}` };
  const referenceCall = { method: "POST", path: `/v1/jobs/${id}/reference`, json: { reference } };
  const again = row?.text && row.text_policy === "full" ? { method: "POST", path: "/v1/summaries", json: resubmission(row) } : null;
  const attempt = async (/** @type {() => Promise<unknown>} */ work) => {
    setFailure(null);
    try {
      await work();
    } catch (problem) {
      setFailure(problem);
    }
  };
  const resubmit = () => attempt(async () => {
    if (!again) return;
    const next = await sendJson(again);
    rememberText([next.id], { text: row.text, reference: row.reference ?? "" });
    go(hrefOf("jobs", next.id));
  });
  const openAsText = () => {
    rememberText([id], { text: row.text, reference: row.reference ?? "" });
    go(hrefOf("summarize", "", { job: id }));
  };
  const score = () => attempt(async () => {
    await send(referenceCall);
    setSent(true);
    setTimeout(() => setRound((before) => before + 1), 2_500);
  });
  const summary = row?.summary || job?.summary || followed.text || "";
  const outcome = job?.status ?? row?.outcome;
  const found = useMemo(() => (row?.text && summary ? provenance(summary, row.text) : null), [row?.text, summary]);
  const sources = useMemo(() => found?.sentences.flatMap((sentence) => sentence.sources.map((span) => ({ ...span, kind: "copied" }))) ?? [], [found]);
  const problem = job?.error ?? (row?.error_code ? { code: row.error_code, message: row.error_message } : null);
  const calls = [{ method: "GET", path: `/v1/jobs/${id}` }, { method: "GET", path: `/v1/predictions/${id}` }, { method: "GET", path: withQuery("/v1/dead-letters", { q: id.replace(/\.\d+$/, "") }) }, ...(again ? [again] : []), cancelCall];
  const nothing = !job && !row && followed.error && error;
  return html`<section class="job">
    <header class="head">
      <div>
        <p class="crumb"><a href="#/jobs">${t.title}</a></p>
        <h1>${t.one} <code>${id}</code></h1>
      </div>
      <div class="row">
        ${row?.tenant === "sample-history" && html`<span class="tag" title=${t.sampleHint}>${t.sample}</span>`}
        ${outcome && html`<${Status} status=${outcome} />`}
        ${job && !isFinal(job) && html`<${Button} needs="submit" kind="danger" icon="stop" onClick=${() => attempt(() => send(cancelCall))}>${T.cancel}<//>`}
        ${again && html`<${Button} needs="submit" icon="refresh" onClick=${resubmit}>${t.resubmitOne}<//>`}
        ${row?.text && isFinal(job) && html`<${Button} icon="summarize" onClick=${openAsText}>${t.openText}<//>`}
        <${Copy} text=${id} label=${t.copyId} />
        <${Curl} calls=${calls} />
      </div>
    </header>
    <${Problem} error=${failure ?? (nothing ? error : null)} retry=${nothing ? reload : undefined} />
    ${!nothing && error && !(error instanceof ApiError && error.status === 404) && html`<${Problem} error=${error} retry=${reload} />`}
    ${problem && html`<div class="problem" role="alert"><div><p>${problem.message}</p><p class="hint"><a href=${`/errors/${problem.code}`} target="_blank" rel="noopener">${problem.code}</a></p></div></div>`}
    <div class="job-grid">
      <div class="pane">
        ${summary && html`<article class="card padded"><h2>${T.summarize.result}</h2><div class=${`summary ${job && !isFinal(job) ? "writing" : ""}`}><${Marked} text=${summary} marks=${found?.marks ?? []} /></div>
          ${found && html`<p class=${`support ${found.unsupported.length ? "bad" : "good"}`}>${percent(found.copied)} ${T.summarize.copied} · ${found.unsupported.length ? `${T.summarize.unsupported(found.unsupported.length)}: ${found.unsupported.map((word) => word.text).join(", ")}` : T.summarize.allSupported}</p>`}
        </article>`}
        ${row && html`<${Times} row=${row} />`}
        ${ended && html`<${History} id=${id} row=${row} />`}
        ${isFinal(job) && html`<article class="card padded">
          <h2>${T.summarize.reference}</h2>
          <textarea rows="3" aria-label=${T.summarize.reference} placeholder=${T.summarize.referencePlaceholder} value=${reference} onInput=${(/** @type {any} */ event) => { setReference(event.target.value); setSent(false); }}></textarea>
          <div class="row"><${Button} needs="submit" disabled=${!reference.trim() || sent || reference === row?.reference} icon=${sent ? "check" : ""} onClick=${score}>${sent ? T.summarize.logged : t.scoreWith}<//><span class="hint">${t.lateHint}</span></div>
          ${row && row.rouge1 !== null && row.rouge1 !== undefined && html`<${Scores} row=${row} />`}
        </article>`}
        ${row && html`<${Facts} row=${row} />`}
      </div>
      <div class="pane">
        ${row?.text
          ? html`<article class="card padded"><h2>${T.summarize.source} <span class="hint">${count(row.text_chars)} chars</span></h2><div class="prose long-text" tabindex="0" role="region" aria-label=${T.summarize.source}><${Marked} text=${row.text} marks=${sources} /></div></article>`
          : row && html`<p class="empty">${t.noText[/** @type {keyof typeof t.noText} */ (row.text_policy)] ?? t.noText.full}</p>`}
        ${(row || job) && html`<details class="card"><summary>${t.raw}</summary><div class="padded"><div class="code"><pre>${JSON.stringify(row ?? job, null, 2)}</pre><${Copy} text=${JSON.stringify(row ?? job, null, 2)} /></div></div></details>`}
      </div>
    </div>
  </section>`;
}

function Scores(/** @type {{row: Row}} */ { row }) {
  return html`<table class="scores">
    <thead><tr><td></td><th scope="col">F1</th><th scope="col">${T.summarize.precision}</th><th scope="col">${T.summarize.recall}</th><th scope="col">${t.stemmed}</th></tr></thead>
    <tbody>
      ${Object.entries(SCORES).map(([name, label]) => html`<tr><th scope="row">${label}</th><td class="number">${fixed(row[name])}</td><td class="number">${fixed(row[`${name}_precision`])}</td><td class="number">${fixed(row[`${name}_recall`])}</td><td class="number">${fixed(row[`${name}_stemmed`])}</td></tr>`)}
      <tr><th scope="row">BLEU</th><td class="number">${fixed(row.bleu, 1)}</td></tr>
    </tbody>
  </table>`;
}

function Facts(/** @type {{row: Row}} */ { row }) {
  /** @type {Record<string, any>} */
  let params = {};
  try {
    params = JSON.parse(row.params || "{}");
  } catch {
    params = { params: row.params };
  }
  const list = (/** @type {[string, any][]} */ entries) =>
    html`<dl class="pairs">${entries.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
  return html`<article class="card padded">
    <h2>${t.details}</h2>
    ${list([
      [t.fields.model, html`${row.model} <code>${row.revision}</code>`],
      [t.fields.worker, row.worker && `${row.worker} (${row.device})`],
      [t.fields.channel, row.channel],
      [t.fields.lane, row.lane],
      [t.fields.tenant, row.tenant],
      [t.fields.batch, row.batch_id && html`<a href=${row.channel === "batch" ? hrefOf("batches", row.batch_id) : hrefOf("jobs", "", { batch: row.batch_id, range: "365d" })}>${row.batch_id}</a> #${row.batch_index + 1}`],
      [t.tokens, `${count(row.text_tokens)} → ${count(row.summary_tokens)}${row.truncated_tokens ? ` (${t.cut(row.truncated_tokens)})` : ""}`],
      [t.characters, `${count(row.text_chars)} → ${count(row.summary_chars)}`],
      [t.batchSize, row.batch_size],
      [t.trace, row.trace_id && html`<code>${row.trace_id}</code> <${Copy} text=${row.trace_id} label=${t.copyTrace} bare />`],
      ...Object.entries(row.metadata ?? {}),
    ])}
    <h3>${T.summarize.settings}</h3>
    <p class="about"><code class="params">${Object.entries(params).filter(([, value]) => value !== null).map(([name, value]) => `${name}=${value}`).join("  ")}</code></p>
    ${row.coverage !== null && html`<h3>${T.analytics.cards.signals}</h3>${list(SIGNALS.map((name) => [name.replaceAll("_", " "), row[name] === null ? null : fixed(row[name], 3)]))}`}
  </article>`;
}
