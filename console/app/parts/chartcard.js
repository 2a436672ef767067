// A card with the answer of a named query: as a chart, as a table, as SQL, as CSV.
import { download, sendJson, withQuery } from "../api.js";
import { html, useState } from "../lib.js";
import { T } from "../text.js";
import { Button, Copy, Curl, Dialog, Problem, useLoad } from "./ui.js";

/** @typedef {Record<string, any>} Row */

const t = T.analytics;

/** The call of a named query. @returns {import("../api.js").Call} */
export function queryCall(/** @type {string} */ name, /** @type {Record<string, any>} */ values) {
  return { method: "GET", path: withQuery(`/v1/analytics/${name}`, values) };
}

/** A table of rows. */
export function RowTable(/** @type {{rows: Row[], label: string, names?: string[], formats?: Record<string, (value: any, row: Row) => any>}} */ { rows, label, names = Object.keys(rows[0] ?? {}), formats = {} }) {
  const isNumber = (/** @type {string} */ name) => rows.some((row) => typeof row[name] === "number");
  const plain = (/** @type {any} */ value) =>
    value === null || value === undefined ? "–" : typeof value === "number" ? (Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 })) : String(value);
  return html`<div class="table-box chart-table" tabindex="0" role="region" aria-label=${label}><table class="list">
    <thead><tr>${names.map((name) => html`<th key=${name} class=${isNumber(name) ? "number" : ""}>${name}</th>`)}</tr></thead>
    <tbody>${rows.slice(0, 1_000).map((row, index) => html`<tr key=${index}>${names.map((name) => html`<td class=${isNumber(name) ? "number" : ""}>${formats[name] ? formats[name](row[name], row) : plain(row[name])}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/**
 * @param {object} props
 * @param {string} props.title
 * @param {string} [props.hint]
 * @param {string} [props.nothing] What an empty answer means.
 * @param {string} props.query Name of the query.
 * @param {Record<string, any>} props.values Its parameters.
 * @param {Record<string, any> | null} [props.other] Parameters of an overlaid answer.
 * @param {(rows: Row[], other: Row[]) => any} props.draw
 * @param {Record<string, {sql?: string, description?: string}>} props.queries All named queries.
 * @param {boolean} [props.wide]
 */
export function ChartCard({ title, hint, nothing = t.nothing, query, values, other = null, draw, queries, wide }) {
  const [table, setTable] = useState(false);
  const [sql, setSql] = useState(false);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const call = queryCall(query, values);
  const overlay = other ? queryCall(query, other) : null;
  const { data, error, loading, reload } = useLoad(
    (signal) => Promise.all([sendJson(call, signal), overlay ? sendJson(overlay, signal) : { data: [] }]),
    [call.path, overlay?.path],
  );
  const [rows, more] = data ? [data[0].data, data[1].data] : [[], []];
  const save = () => download(queryCall(query, { ...values, format: "csv" }), `${query}.csv`).catch(setFailure);
  const definition = queries[query];
  return html`<section class=${`card chart ${wide ? "wide" : ""}`} aria-busy=${loading}>
    <header>
      <h2>${title}</h2>
      <span class="spacer"></span>
      <${Button} kind=${table ? "on quiet" : "quiet"} icon="table" aria-pressed=${table} aria-label=${`${t.table}: ${title}`} title=${t.table} onClick=${() => setTable(!table)} />
      ${definition?.sql && html`<${Button} kind="quiet" aria-label=${`SQL: ${title}`} onClick=${() => setSql(true)}>SQL<//>`}
      <${Button} kind="quiet" icon="download" aria-label=${`CSV: ${title}`} title="CSV" onClick=${save} />
      <${Curl} calls=${overlay ? [call, overlay] : [call]} />
    </header>
    ${hint && html`<p class="hint">${hint}</p>`}
    <${Problem} error=${error ?? failure} retry=${reload} />
    ${!error && (data ? (rows.length || more.length ? (table ? html`<${RowTable} rows=${rows} label=${title} />` : draw(rows, more)) : html`<p class="nothing">${nothing}</p>`) : html`<p class="nothing">…</p>`)}
    ${sql &&
    html`<${Dialog} title=${`SQL: ${title}`} class="wide" onClose=${() => setSql(false)}>
      <p class="hint">${definition?.description}</p>
      <div class="code"><pre>${definition?.sql}</pre><${Copy} text=${definition?.sql ?? ""} /></div>
    <//>`}
  </section>`;
}
