// The reference of a job: scores the summaries against it, and stores it with the job.
import { send, sendJson } from "../api.js";
import { fixed } from "../format.js";
import { html, useEffect, useState } from "../lib.js";
import { T } from "../text.js";
import { Button, Curl, Problem } from "./ui.js";

/** @typedef {import("../../types/rest").ScoreReport} ScoreReport */
/** @typedef {import("../../types/rest").PairScores} PairScores */

const ROUGE = /** @type {const} */ (["rouge1", "rouge2", "rougeL", "rougeLsum"]);
const NAMES = { rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeL: "ROUGE-L", rougeLsum: "ROUGE-Lsum", bleu: "BLEU" };

/** The call that scores summaries against one reference. */
export function scoreCall(/** @type {string[]} */ summaries, /** @type {string} */ reference, /** @type {boolean} */ stemmed) {
  const pairs = summaries.map((summary) => ({ summary, reference }));
  return { method: "POST", path: "/v1/scores", json: { pairs, stemmed, priority: "high" } };
}

/** Submits pairs and waits until all are scored. @returns {Promise<ScoreReport>} */
export async function score(/** @type {import("../api.js").Call} */ call, /** @type {AbortSignal} */ signal) {
  /** @type {ScoreReport} */
  let report = await sendJson(call, signal);
  while (!report.done) report = await sendJson({ method: "GET", path: `${report.links.self}?wait=20` }, signal);
  return report;
}

function Figure(/** @type {any} */ { pairs, name, part }) {
  const values = pairs.map((/** @type {any} */ pair) => (name === "bleu" ? pair.bleu : pair[name]?.[part]));
  const best = values.length > 1 ? Math.max(...values) : null;
  return values.map((/** @type {number} */ value) => html`<td class=${`number ${value === best ? "best" : ""}`}>${fixed(value, name === "bleu" ? 1 : 3)}</td>`);
}

function Table(/** @type {{pairs: PairScores[], titles: string[]}} */ { pairs, titles }) {
  const t = T.summarize;
  const parts = /** @type {const} */ (["fmeasure", "precision", "recall"]);
  return html`<div class="scroll"><table class="scores">
    <thead>
      ${titles.length > 1 && html`<tr><td></td>${parts.map((part) => html`<th colspan=${titles.length}>${t[part]}</th>`)}</tr>`}
      <tr><td></td>${parts.flatMap((part) => titles.map((title) => html`<th scope="col">${titles.length > 1 ? title : t[part]}</th>`))}</tr>
    </thead>
    <tbody>
      ${ROUGE.map((name) => html`<tr key=${name}><th scope="row">${NAMES[name]}</th>${parts.map((part) => html`<${Figure} pairs=${pairs} name=${name} part=${part} />`)}</tr>`)}
      <tr><th scope="row">${NAMES.bleu}</th><${Figure} pairs=${pairs} name="bleu" part="" /></tr>
    </tbody>
  </table></div>`;
}

/**
 * @param {object} props
 * @param {{id: string, title: string, summary: string}[]} props.results Succeeded jobs.
 * @param {string} props.reference
 * @param {(text: string) => void} props.onReference
 * @param {any} props.shown The reference with marks, or null to edit it.
 */
export function Reference({ results, reference, onReference, shown }) {
  const t = T.summarize;
  const [stemmed, setStemmed] = useState(false);
  const [report, setReport] = useState(/** @type {ScoreReport | null} */ (null));
  const [busy, setBusy] = useState("");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [logged, setLogged] = useState(false);
  const ids = results.map(({ id }) => id).join();
  useEffect(() => {
    setReport(null);
    setLogged(false);
    setError(null);
  }, [ids, reference]);
  const call = scoreCall(results.map(({ summary }) => summary), reference, stemmed);
  const logCalls = results.map(({ id }) => ({ method: "POST", path: `/v1/jobs/${id}/reference`, json: { reference } }));
  const run = async (/** @type {string} */ what, /** @type {() => Promise<unknown>} */ work) => {
    setBusy(what);
    setError(null);
    try {
      await work();
    } catch (failure) {
      setError(failure);
    }
    setBusy("");
  };
  const compute = () => run("score", async () => setReport(await score(call, AbortSignal.timeout(120_000))));
  const log = () => run("log", async () => {
    await Promise.all(logCalls.map((one) => send(one)));
    setLogged(true);
  });
  const ready = results.length > 0 && reference.trim() !== "";
  const failed = report?.pairs.find((pair) => pair.error);
  return html`<section class="reference">
    <header>
      <h2>${t.reference}</h2>
      <span class="spacer"></span>
      <label class="check"><input type="checkbox" checked=${stemmed} onChange=${(/** @type {any} */ event) => setStemmed(event.target.checked)} /> ${t.stemmed}</label>
      <${Button} needs="submit" disabled=${!ready || !!busy} onClick=${compute}>${busy === "score" ? t.scoring : t.score}<//>
      <${Button} needs="submit" disabled=${!ready || !!busy || logged} title=${t.logHint} icon=${logged ? "check" : ""} onClick=${log}>${logged ? t.logged : t.log}<//>
      ${ready && html`<${Curl} calls=${[call, ...logCalls]} />`}
    </header>
    ${shown ?? html`<textarea rows="3" aria-label=${t.reference} placeholder=${t.referencePlaceholder} value=${reference}
      onInput=${(/** @type {any} */ event) => onReference(event.target.value)}></textarea>`}
    ${!reference && html`<p class="hint">${t.referenceHint}</p>`}
    <${Problem} error=${error ?? failed?.error?.message} retry=${compute} />
    ${report && !failed && html`<${Table} pairs=${report.pairs} titles=${results.map(({ title }) => title)} />`}
  </section>`;
}
