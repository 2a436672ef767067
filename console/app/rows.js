// Reads the rows of an upload, for a preview: CSV with a header (RFC 4180), or JSON Lines.
import { T } from "./text.js";

/**
 * @typedef {object} Row
 * @property {number} line Line of the file on which it starts, from 1.
 * @property {string} article
 * @property {string} reference
 * @property {string} [problem] Why the gateway will refuse it.
 */

/** @typedef {{format: "csv" | "jsonl", rows: Row[], problem?: string, complete: boolean}} Preview */

const t = T.batches.problems;

/** Splits CSV into records with the line on which each begins. */
export function records(/** @type {string} */ text) {
  /** @type {{line: number, fields: string[], open: boolean}[]} */
  const found = [];
  let [at, line] = [0, 1];
  while (at < text.length) {
    /** @type {{line: number, fields: string[], open: boolean}} */
    const record = { line, fields: [], open: false };
    for (;;) {
      let field = "";
      if (text[at] === '"') {
        for (at += 1; ; ) {
          const quote = text.indexOf('"', at);
          const end = quote < 0 ? text.length : quote;
          field += text.slice(at, end);
          at = end + 1;
          if (quote < 0) record.open = true;
          if (text[at] !== '"' || quote < 0) break;
          field += '"';
          at += 1;
        }
      }
      const rest = /[^,\r\n]*/y;
      rest.lastIndex = at;
      const more = rest.exec(text)?.[0] ?? "";
      at += more.length;
      field += more;
      record.fields.push(field);
      line += field.match(/\r\n|\r|\n/g)?.length ?? 0;
      if (text[at] !== ",") break;
      at += 1;
    }
    if (text[at] === "\r" && text[at + 1] === "\n") at += 1;
    at += 1;
    line += 1;
    if (record.fields.length > 1 || record.fields[0] !== "") found.push(record);
  }
  return found;
}

/** @returns {Preview} */
function readCsv(/** @type {string} */ text) {
  const [header, ...rest] = records(text);
  const names = (header?.fields ?? []).map((name) => name.trim().toLowerCase());
  const column = (/** @type {string[]} */ ...wanted) => wanted.map((name) => names.indexOf(name)).find((index) => index >= 0) ?? -1;
  const [article, reference] = [column("article", "text"), column("summ", "reference")];
  if (article < 0) return { format: "csv", rows: [], problem: t.noColumn(names.join(", ")), complete: true };
  const rows = rest.map((record) => {
    const fields = record.fields;
    return {
      line: record.line,
      article: fields[article] ?? "",
      reference: reference < 0 ? "" : (fields[reference] ?? ""),
      problem: record.open ? t.quote : fields.length !== names.length ? t.fields(fields.length, names.length) : undefined,
    };
  });
  return { format: "csv", rows, complete: true };
}

/** @returns {Preview} */
function readLines(/** @type {string} */ text) {
  /** @type {Row[]} */
  const rows = [];
  text.split(/\r\n|\n/).forEach((content, index) => {
    if (!content.trim()) return;
    const row = { line: index + 1, article: "", reference: "" };
    try {
      const value = JSON.parse(content);
      if (typeof value === "string") rows.push({ ...row, article: value });
      else if (typeof value?.article === "string") rows.push({ ...row, article: value.article, reference: value.summ ?? "" });
      else rows.push({ ...row, problem: t.noArticle });
    } catch {
      rows.push({ ...row, article: content, problem: t.json });
    }
  });
  return { format: "jsonl", rows, complete: true };
}

/** Whether a file holds JSON Lines: by its name, else by its first character. */
export function isJsonLines(/** @type {string} */ name, /** @type {string} */ text) {
  return /\.(jsonl|ndjson)$/i.test(name) || (!/\.csv$/i.test(name) && /^\s*["{]\s*["a-z]/.test(text) && !/^"?article/.test(text));
}

/**
 * Reads the rows of a text.
 * @param {string} name Name of the file.
 * @param {string} text Its content, or its beginning.
 * @param {{complete: boolean, maxChars?: number}} options
 * @returns {Preview}
 */
export function readRows(name, text, { complete, maxChars }) {
  const content = text.replace(/^\uFEFF/, "");
  const preview = isJsonLines(name, content) ? readLines(content) : readCsv(content);
  // The last row of a beginning is cut off.
  if (!complete) preview.rows.pop();
  for (const row of preview.rows) {
    if (row.problem) continue;
    if (!row.article.trim()) row.problem = t.empty;
    else if (maxChars && [...row.article].length > maxChars) row.problem = t.tooLong(maxChars);
  }
  return { ...preview, complete };
}
