// What this browser remembers of its batches: their names, and in this tab the uploaded rows.
/** @typedef {{id: string, name: string, at: string}} Known */
/** @typedef {{article: string, reference: string}} Uploaded */

const LIST = "precis.batches";
const ROWS = "precis.rows.";
const MAX_KNOWN = 30;
const MAX_STORED_CHARS = 2_000_000;

/** @type {Map<string, Uploaded[]>} */
const inMemory = new Map();

/** @returns {Known[]} */
export function knownBatches() {
  try {
    return JSON.parse(localStorage.getItem(LIST) ?? "[]");
  } catch {
    return [];
  }
}

function save(/** @type {Known[]} */ list) {
  try {
    localStorage.setItem(LIST, JSON.stringify(list.slice(0, MAX_KNOWN)));
  } catch {
    // Without storage, the address of a batch is the way back to it.
  }
}

/** Remembers a batch and, if they are known, its rows. */
export function rememberBatch(/** @type {Known} */ batch, /** @type {Uploaded[] | null} */ rows) {
  save([batch, ...knownBatches().filter(({ id }) => id !== batch.id)]);
  if (!rows) return;
  inMemory.set(batch.id, rows);
  const text = JSON.stringify(rows);
  if (text.length > MAX_STORED_CHARS) return;
  try {
    sessionStorage.setItem(ROWS + batch.id, text);
  } catch {
    // They stay in memory.
  }
}

export function forgetBatch(/** @type {string} */ id) {
  save(knownBatches().filter((batch) => batch.id !== id));
}

/** The rows that this tab uploaded, in order. */
export function uploadedRows(/** @type {string} */ id) {
  const known = inMemory.get(id);
  if (known) return known;
  try {
    const text = sessionStorage.getItem(ROWS + id);
    return text ? /** @type {Uploaded[]} */ (JSON.parse(text)) : null;
  } catch {
    return null;
  }
}
