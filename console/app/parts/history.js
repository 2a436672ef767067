// What happened to a job: its steps, its dead letters, and the jobs that it led to.
import { sendJson, withQuery } from "../api.js";
import { count, duration, parseTime, time } from "../format.js";
import { html } from "../lib.js";
import { hrefOf } from "../route.js";
import { T } from "../text.js";
import { useLoad } from "./ui.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {Record<string, any>} Row */
/** @typedef {import("../../types/rest").StatusView} StatusView */
/** @typedef {import("../../types/rest").DeadLetterView} DeadLetterView */

const t = T.jobs;

/** Where the result is now: the monitor reads results in the order of their sequences. */
function forwarding(/** @type {Row} */ row, /** @type {StatusView | undefined} */ status) {
  const at = row.result_sequence;
  if (!at || !status) return [];
  return status.sinks
    .filter(({ sink, handled_to: to }) => /^(arize|phoenix)/.test(sink) && !sink.endsWith("-references") && typeof to === "number")
    .map(({ sink, handled_to: to, error }) => {
      const waits = /** @type {number} */ (to) < at;
      return [waits ? t.waitsFor(t.sinks[/** @type {keyof typeof t.sinks} */ (sink)] ?? sink) : t.passed(t.sinks[/** @type {keyof typeof t.sinks} */ (sink)] ?? sink), waits && error ? html`<span class="hint bad">${error}</span>` : html`<span class="hint">${waits ? "" : t.passedHint}</span>`];
    });
}

/** What happened when. */
export function Times(/** @type {{row: Row}} */ { row }) {
  // Without the right to see it, or while the monitor is away, the last steps stay out.
  const { data: status } = useLoad((signal) => sendJson({ method: "GET", path: "/v1/status" }, signal), [row.job_id, row.result_sequence]);
  const after = (/** @type {number} */ ms) => html`<span class="hint">+${duration(ms)}</span>`;
  const queue = row.queue_ms;
  const steps = [
    [t.accepted, html`${time(row.submitted_at)}`],
    [t.delivered(row.attempt), row.started_at ? html`${time(row.started_at)} ${after(queue)}` : null],
    [t.batchBegan(row.batch_size), row.batch_size > 0 ? after(queue + row.batch_wait_ms) : null],
    [t.encoded, row.encode_ms > 0 ? after(queue + row.batch_wait_ms + row.tokenize_ms + row.encode_ms) : null],
    [t.decoded, row.decode_ms > 0 ? after(queue + row.batch_wait_ms + row.tokenize_ms + row.encode_ms + row.decode_ms) : null],
    [t.published, html`${time(row.finished_at)} ${after(row.end_to_end_ms)}`],
    [t.stored, row.result_sequence ? html`<span class="hint">${t.resultSequence(count(row.result_sequence))}</span>` : html`<span class="hint"></span>`],
    ...forwarding(row, status),
    [t.referenceAt, row.reference_at ? time(row.reference_at) : null],
  ].filter(([, value]) => value);
  return html`<article class="card padded">
    <h2>${t.timeline}</h2>
    <ol class="steps">${steps.map(([name, value]) => html`<li key=${name}><span>${name}</span> <div>${value}</div></li>`)}</ol>
    <${Waterfall} timings=${{ ...row, total_ms: row.end_to_end_ms }} />
  </article>`;
}

/** The dead letters of a job, and the jobs that ran it again. Empty if there are none. */
export function History(/** @type {{id: string, row?: Row}} */ { id, row }) {
  const name = id.replace(/\.\d+$/, "");
  const handle = row?.id ?? id;
  const ids = [...new Set([name, handle])];
  const from = parseTime(row?.submitted_at)?.toISOString() ?? "now-30d";
  const { data: letters } = useLoad((signal) => sendJson({ method: "GET", path: withQuery("/v1/dead-letters", { q: name, limit: 20 }) }, signal), [name]);
  const { data: later } = useLoad(async (signal) => {
    const filters = [...ids.map((one) => `replay_of=${one}`), ...ids.map((one) => `resubmission_of=${one}`)];
    const pages = filters.map((metadata) => sendJson({ method: "GET", path: withQuery("/v1/predictions", { from, metadata, limit: 10 }) }, signal));
    return (await Promise.all(pages)).flatMap((/** @type {any} */ page) => page.data);
  }, [ids.join(), from]);
  const first = row?.metadata?.replay_of ?? row?.metadata?.resubmission_of;
  /** @type {DeadLetterView[]} */
  const dead = letters?.dead_letters ?? [];
  /** @type {Row[]} */
  const runs = later ?? [];
  if (!dead.length && !runs.length && !first) return null;
  return html`<article class="card padded">
    <h2>${t.history}</h2>
    <ol class="steps">
      ${first && html`<li><span>${t.runOf}</span> <a href=${hrefOf("jobs", first)}>${first}</a></li>`}
      ${dead.map((letter) => html`<li key=${letter.sequence}><span>${time(letter.died_at)}</span> <div>${t.died(letter.kind, letter.attempts)} <a href=${hrefOf("operations", "", { q: name })}><code>${letter.reason.code}</code></a> ${letter.reason.message}</div></li>`)}
      ${runs.map((run) => html`<li key=${run.id}><span>${time(run.submitted_at)}</span> <div>${t.ranAgain} <a href=${hrefOf("jobs", run.id)}>${run.id}</a> ${T.status[/** @type {keyof typeof T.status} */ (run.outcome)]}</div></li>`)}
    </ol>
  </article>`;
}
