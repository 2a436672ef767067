// The result of one job: its state, its text as it is written, and what is known of it afterwards.
import { send } from "../api.js";
import { count, duration, fixed, percent } from "../format.js";
import { isFinal } from "../follow.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { common, difference, provenance } from "../provenance.js";
import { T } from "../text.js";
import { Button, Copy, Curl, Marked, Problem, Status } from "./ui.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {import("../follow.js").Followed} Followed */
/** @typedef {import("../../types/rest").JobView} JobView */
/** @typedef {import("../provenance.js").Provenance} Provenance */

/** The clock of a job that has not ended. */
function Elapsed(/** @type {{since: string | undefined | null}} */ { since }) {
  const [now, setNow] = useState(Date.now());
  const began = useRef(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 100);
    return () => clearInterval(timer);
  }, []);
  // The clocks of browser and gateway may differ: a negative time falls back to when the page asked.
  const from = since ? Math.min(Date.parse(since), began.current) : began.current;
  return html`<span class="number">${((now - from) / 1_000).toFixed(1)} s</span>`;
}

function Progress(/** @type {{followed: Followed, live: boolean}} */ { followed, live }) {
  const { job, retrying, text } = followed;
  if (retrying) return html`<p class="hint" role="status">${T.summarize.reconnecting}</p>`;
  if (!job || job.status === "queued") {
    const eta = job?.eta_seconds;
    return html`<p class="hint" role="status">
      ${live ? T.summarize.queued(job?.position) : T.summarize.noWorker}
      ${live && eta ? `, ${T.summarize.eta(duration(eta * 1_000))}` : ""}
    </p>`;
  }
  return text ? null : html`<p class="hint" role="status">${T.summarize.starting}</p>`;
}

/**
 * The sentences of a summary. Each can be hovered or focused.
 * @param {{text: string, marks: import("../provenance.js").Mark[], provenance: Provenance | null, active: number, onActive: (index: number) => void}} props
 */
function Sentences({ text, marks, provenance: found, active, onActive }) {
  if (!found?.sentences.length) return html`<${Marked} text=${text} marks=${marks} />`;
  return found.sentences.map(({ start, end }, index) => {
    const next = found.sentences[index + 1]?.start ?? text.length;
    const own = marks
      .filter((mark) => mark.start < end && mark.end > start)
      .map((mark) => ({ ...mark, start: mark.start - start, end: mark.end - start }));
    return html`<span key=${start} class=${`sentence ${active === index ? "active" : ""}`} tabindex="0"
        onPointerEnter=${() => onActive(index)} onPointerLeave=${() => onActive(-1)}
        onFocus=${() => onActive(index)} onBlur=${() => onActive(-1)}>
        <${Marked} text=${text.slice(start, end)} marks=${own} />
      </span>${text.slice(end, next)}`;
  });
}

function Facts(/** @type {{provenance: Provenance, job: JobView}} */ { provenance: found, job }) {
  const fact = (/** @type {string} */ value, /** @type {string} */ name, /** @type {string} */ hint) =>
    html`<div title=${hint}><dt>${name}</dt><dd>${value}</dd></div>`;
  const t = T.summarize;
  return html`<dl class="facts">
      ${fact(percent(found.copied), t.copied, t.copiedHint)}
      ${fact(percent(found.coverage), t.coverage, t.coverageHint)}
      ${fact(fixed(found.density, 1), t.density, t.densityHint)}
      ${fact(`${fixed(found.compression, 1)} ×`, t.compression, t.compressionHint)}
      ${job.sizes && fact(count(job.sizes.summary_tokens), "tokens", "")}
    </dl>
    <p class=${`support ${found.unsupported.length ? "bad" : "good"}`}>
      ${found.unsupported.length
        ? html`${t.unsupported(found.unsupported.length)}: ${found.unsupported.map((word) => word.text).join(", ")}`
        : t.allSupported}
    </p>`;
}

/**
 * @param {object} props
 * @param {string} props.id
 * @param {Followed} props.followed
 * @param {string} props.title
 * @param {string | undefined} props.source
 * @param {string} props.reference
 * @param {string} props.other The other summary of a comparison.
 * @param {string} props.marksMode
 * @param {boolean} props.live Whether a worker is live.
 * @param {number} props.active
 * @param {(index: number) => void} props.onActive
 * @param {() => void} props.onAgain
 */
export function Result({ id, followed, title, source, reference, other, marksMode, live, active, onActive, onAgain }) {
  const [cancelError, setCancelError] = useState(/** @type {unknown} */ (null));
  const { job } = followed;
  const text = job?.summary ?? followed.text ?? "";
  const ended = isFinal(job);
  const found = useMemo(() => (source && text ? provenance(text, source) : null), [source, text]);
  const marks = useMemo(() => {
    if (marksMode === "difference") return difference(text, other)[0];
    if (marksMode === "reference") return common(text, reference);
    return (found?.marks ?? []).map((mark) =>
      mark.kind === "unsupported" ? { ...mark, title: T.summarize.unsupportedMark } : mark,
    );
  }, [marksMode, text, other, reference, found]);
  const call = { method: "DELETE", path: `/v1/jobs/${id}` };
  const cancel = () => {
    setCancelError(null);
    send(call).catch((error) => error.code !== "job_finished" && setCancelError(error));
  };
  const calls = [{ method: "GET", path: `/v1/jobs/${id}` }, { method: "GET", path: `/v1/jobs/${id}/events` }, call];
  return html`<article class="result" aria-busy=${!ended && !followed.error}>
    <header>
      <h2>${title}</h2>
      ${job && html`<${Status} status=${job.status} />`}
      ${!ended && !followed.error && html`<${Elapsed} since=${job?.submitted_at} />`}
      ${ended && job?.timings && html`<span class="number">${duration(job.timings.total_ms)}</span>`}
      ${job?.attempt && job.attempt > 1 ? html`<span class="tag">${T.summarize.attempt(job.attempt)}</span>` : ""}
      <span class="spacer"></span>
      ${!ended && !followed.error && html`<${Button} needs="submit" icon="stop" kind="danger" onClick=${cancel}>${T.cancel}<//>`}
      ${text && html`<${Copy} text=${text} bare />`}
      <${Curl} calls=${calls} bare />
    </header>
    <${Problem} error=${cancelError} />
    ${followed.error && html`<${Problem} error=${followed.error} retry=${source ? onAgain : undefined} />`}
    ${!ended && !followed.error && html`<${Progress} followed=${followed} live=${live} />`}
    ${text &&
    html`<div class=${`summary ${ended ? "" : "writing"}`} lang="en">
      <${Sentences} text=${text} marks=${ended ? marks : []} provenance=${ended ? found : null} active=${active} onActive=${onActive} />
    </div>`}
    ${job?.error && html`<${Problem} error=${`${job.error.message} (${job.error.code})`} retry=${source ? onAgain : undefined} />`}
    ${ended && job?.sizes?.truncated_tokens ? html`<p class="note">${T.summarize.truncated(job.sizes.truncated_tokens)}</p>` : ""}
    ${ended && found && job?.summary && html`<${Facts} provenance=${found} job=${job} />`}
    ${ended && job?.timings && html`<${Waterfall} timings=${job.timings} />`}
    ${ended && job && html`<${About} job=${job} />`}
  </article>`;
}

function About(/** @type {{job: JobView}} */ { job }) {
  const params = Object.entries(job.params ?? {}).filter(([, value]) => value !== null);
  return html`<p class="about">
    ${job.model?.name && html`<span>${job.model.name} <code>${job.model.revision}</code></span>`}
    ${job.worker && html`<span>${job.worker.id} (${job.worker.device})</span>`}
    ${job.sizes?.batch_size && job.sizes.batch_size > 1 ? html`<span>batch of ${job.sizes.batch_size}</span>` : ""}
    <details><summary>${T.summarize.settings}</summary><code class="params">${params.map(([name, value]) => `${name}=${value}`).join("  ")}</code></details>
  </p>`;
}
