// Upload a file of texts; the list of this browser's batches.
import { ApiError, sendJson, withQuery } from "../api.js";
import { forgetBatch, knownBatches, rememberBatch } from "../batchstore.js";
import { ago, bytes, count } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { offer } from "../parts/palette.js";
import { PARAMS, Settings, paramsOf } from "../parts/settings.js";
import { Button, Curl, Field, Problem, Status, useLoad } from "../parts/ui.js";
import { go, hrefOf, setQuery } from "../route.js";
import { readRows } from "../rows.js";
import { randomId } from "../storage.js";
import { T } from "../text.js";
import { Batch, Segments } from "./batch.js";

/** @typedef {import("../rows.js").Preview} Preview */

const t = T.batches;
/** Bytes of a file that are read for the preview. */
const PREVIEW_BYTES = 4 << 20;
const SHOWN_ROWS = 100;
const NAMES = ["model", ...Object.keys(PARAMS)];

/** @param {{route: import("../route.js").Route, models: any}} props */
export function Batches({ route, models }) {
  return route.id
    ? html`<${Batch} key=${route.id} id=${route.id} route=${route} />`
    : html`<${Upload} route=${route} models=${models} />`;
}

function PreviewTable(/** @type {{preview: Preview}} */ { preview }) {
  const [onlyBad, setOnlyBad] = useState(false);
  const bad = preview.rows.filter((row) => row.problem).length;
  const rows = (onlyBad ? preview.rows.filter((row) => row.problem) : preview.rows).slice(0, SHOWN_ROWS);
  if (preview.problem) return html`<p class="note bad">${preview.problem}</p>`;
  return html`<div class="preview">
    <div class="bar">
      <span>${preview.complete ? t.rows(preview.rows.length) : t.firstRows(preview.rows.length)}</span>
      ${bad > 0 && html`<button type="button" class="chip bad" aria-pressed=${onlyBad} onClick=${() => setOnlyBad(!onlyBad)}>${t.bad(bad)}</button>`}
      ${preview.rows.some((row) => row.reference) && html`<span class="hint">${t.withReferences(preview.rows.filter((row) => row.reference).length)}</span>`}
    </div>
    <div class="table-box" tabindex="0" role="region" aria-label=${t.preview}>
      <table class="list">
        <thead><tr><th class="number">${t.line}</th><th>${t.article}</th><th>${t.reference}</th></tr></thead>
        <tbody>
          ${rows.map(
            (row) => html`<tr key=${row.line} class=${row.problem ? "bad" : ""}>
              <td class="number">${row.line}</td>
              <td>${row.problem && html`<strong>${row.problem}</strong> `}<span class="clip">${row.article.slice(0, 240)}</span></td>
              <td><span class="clip">${row.reference.slice(0, 160)}</span></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${preview.rows.length > SHOWN_ROWS && html`<p class="hint">${t.shown(rows.length)}</p>`}
  </div>`;
}

/** @param {{route: import("../route.js").Route, models: any}} props */
function Upload({ route, models }) {
  const { query } = route;
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [preview, setPreview] = useState(/** @type {Preview | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [dropping, setDropping] = useState(false);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const key = useRef("");
  const model = models.models.find((/** @type {any} */ one) => (query.get("model") ? one.served_as === query.get("model") : one.default));
  const maxChars = model?.limits.max_text_chars;

  const settings = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
  const params = paramsOf(settings);
  const path = withQuery("/v1/batches", {
    model: settings.model,
    priority: query.get("priority"),
    ttl_seconds: query.get("ttl") ? Number(query.get("ttl")) * 3_600 : "",
    params: Object.keys(params).length ? JSON.stringify(params) : "",
  });
  const type = preview?.format === "jsonl" ? "application/x-ndjson" : "text/csv";
  const call = { method: "POST", path, headers: { "content-type": type }, body: file ?? "", file: file?.name ?? "pairs.csv" };

  const take = async (/** @type {File | undefined | null} */ next) => {
    setDropping(false);
    if (!next) return;
    setError(null);
    setFile(next);
    setPreview(null);
    // A repeated upload of the same choice is the same batch.
    key.current = randomId();
    try {
      const text = await next.slice(0, PREVIEW_BYTES).text();
      setPreview(readRows(next.name, text, { complete: next.size <= PREVIEW_BYTES, maxChars }));
    } catch (failure) {
      setError(failure);
    }
  };
  const sample = async () => {
    try {
      const response = await fetch("/console/samples/pairs.csv");
      await take(new File([await response.blob()], "pairs.csv", { type: "text/csv" }));
    } catch (failure) {
      setError(failure);
    }
  };
  const submit = async () => {
    if (!file || busy) return;
    setBusy(true);
    setError(null);
    try {
      const batch = await sendJson({ ...call, headers: { ...call.headers, "idempotency-key": `"${key.current}"` } });
      const rows = preview?.complete ? preview.rows.map(({ article, reference }) => ({ article, reference })) : null;
      rememberBatch({ id: batch.id, name: file.name, at: new Date().toISOString() }, rows);
      go(hrefOf("batches", batch.id));
    } catch (failure) {
      setError(failure);
      // A failure that passes may have hidden an accepted upload, so the next try keeps its key.
      const passes = failure instanceof ApiError && (failure.passes || failure.code === "idempotency_key_in_use");
      if (!passes) key.current = randomId();
    }
    setBusy(false);
  };
  useEffect(() => offer({ label: t.sample, run: sample }), []);

  return html`<section class="batches"
      onDragOver=${(/** @type {DragEvent} */ event) => { if (event.dataTransfer?.types.includes("Files")) { event.preventDefault(); setDropping(true); } }}
      onDragLeave=${(/** @type {DragEvent} */ event) => event.currentTarget === event.target && setDropping(false)}
      onDrop=${(/** @type {DragEvent} */ event) => { event.preventDefault(); take(event.dataTransfer?.files[0]); }}>
    ${dropping && html`<div class="dropping">${t.dropHere}</div>`}
    <header class="head">
      <div><h1>${t.title}</h1><p class="hint">${t.hint}</p></div>
    </header>
    <div class="columns">
      <div class="pane">
        <div class=${`drop ${file ? "small" : ""}`}>
          <p>${file ? html`<strong>${file.name}</strong> <span class="hint">${bytes(file.size)}</span>` : t.drop}</p>
          <div class="row">
            <${Button} icon="file" onClick=${() => input.current?.click()}>${file ? t.other : t.choose}<//>
            <${Button} onClick=${sample}>${t.sample}<//>
          </div>
          ${!file && html`<p class="hint">${t.formats}</p>`}
          <input ref=${input} type="file" accept=".csv,.jsonl,.ndjson,text/csv" hidden aria-label=${t.choose}
            onChange=${(/** @type {any} */ event) => { take(event.target.files[0]); event.target.value = ""; }} />
        </div>
        <${Problem} error=${error} />
        ${preview && html`<${PreviewTable} preview=${preview} />`}
      </div>
      <div class="pane">
        <div class="bar">
          <${Button} needs="submit" kind="primary" icon="play" disabled=${!file || busy || !preview || preview.problem} onClick=${submit}>${busy ? t.uploading : t.upload}<//>
          <span class="spacer"></span>
          ${file && html`<${Curl} calls=${[call]} />`}
        </div>
        <div class="card padded">
          <${Settings} title="" values=${settings} models=${models.models} onChange=${(/** @type {any} */ changes) => setQuery(changes)} />
          <div class="fields">
            <${Field} label=${T.summarize.priority}>
              <select value=${query.get("priority") ?? ""} onChange=${(/** @type {any} */ event) => setQuery({ priority: event.target.value })}>
                <option value="">${T.choices.bulk}</option>
                <option value="normal">${T.choices.normal}</option>
                <option value="high">${T.choices.high}</option>
              </select>
            <//>
            <${Field} label=${t.deadline} hint=${t.deadlineHint}>
              <input type="number" min="1" max="24" placeholder="12" value=${query.get("ttl") ?? ""} onInput=${(/** @type {any} */ event) => setQuery({ ttl: event.target.value })} />
            <//>
          </div>
        </div>
      </div>
    </div>
    <${Recent} />
  </section>`;
}

function Recent() {
  const [list, setList] = useState(knownBatches);
  const ids = useMemo(() => list.map(({ id }) => id), [list]);
  const { data } = useLoad(
    async (signal) =>
      Object.fromEntries(
        await Promise.all(ids.map(async (id) => [id, await sendJson({ method: "GET", path: `/v1/batches/${id}` }, signal).catch((error) => error)])),
      ),
    [ids.join()],
  );
  if (!list.length) return null;
  const forget = (/** @type {string} */ id) => {
    forgetBatch(id);
    setList(knownBatches());
  };
  return html`<section class="recent">
    <h2>${t.recent}</h2>
    <div class="table-box"><table class="list">
      <thead><tr><th>${t.file}</th><th>${t.state}</th><th class="number">${t.rowsHeader}</th><th class="grow">${t.progress}</th><th>${t.uploaded}</th><td></td></tr></thead>
      <tbody>
        ${list.map(({ id, name, at }) => {
          const batch = data?.[id];
          const gone = batch instanceof Error;
          return html`<tr key=${id}>
            <td><a href=${hrefOf("batches", id)}>${name}</a></td>
            <td>${batch && !gone ? html`<${Status} status=${batch.status} />` : gone ? html`<${Status} status="gone" />` : "…"}</td>
            <td class="number">${batch && !gone ? count(batch.rows) : ""}</td>
            <td class="grow">${batch && !gone && html`<${Segments} counts=${batch.counts} />`}</td>
            <td>${ago(at)}</td>
            <td><${Button} kind="quiet" icon="close" aria-label=${`${t.forget} ${name}`} title=${t.forget} onClick=${() => forget(id)} /></td>
          </tr>`;
        })}
      </tbody>
    </table></div>
  </section>`;
}
