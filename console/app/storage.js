// What a tab remembers: the draft, and the texts of its latest jobs.
const DRAFT = "precis.draft";
const TEXTS = "precis.texts";
const MAX_TEXTS = 20;

/** @typedef {{text: string, reference: string}} Draft */

function read(/** @type {string} */ name) {
  try {
    return JSON.parse(sessionStorage.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

function write(/** @type {string} */ name, /** @type {unknown} */ value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    // Storage is off or full.
    return false;
  }
}

/** `crypto.randomUUID` exists only on https and localhost. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Draft} */
export function loadDraft() {
  return { text: "", reference: "", ...read(DRAFT) };
}

export function saveDraft(/** @type {Draft} */ draft) {
  write(DRAFT, draft);
}

/** The text and reference that a job of this tab was submitted with. @returns {Draft | undefined} */
export function textOf(/** @type {string} */ id) {
  return (read(TEXTS) ?? []).find((/** @type {any} */ entry) => entry.ids.includes(id))?.draft;
}

export function rememberText(/** @type {string[]} */ ids, /** @type {Draft} */ draft) {
  let entries = [{ ids, draft }, ...(read(TEXTS) ?? [])].slice(0, MAX_TEXTS);
  while (entries.length && !write(TEXTS, entries)) entries = entries.slice(0, -1);
}
