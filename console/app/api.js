// Calls of the gateway's public routes.
import { T } from "./text.js";

/** @typedef {import("../types/rest").Problem} Problem */

/**
 * A call, as the page makes it and as `curl` would.
 * @typedef {object} Call
 * @property {string} method
 * @property {string} path Path with its query.
 * @property {Record<string, string>} [headers]
 * @property {unknown} [json] Body that is sent as JSON.
 * @property {Blob | string} [body] Body that is sent as it is.
 * @property {string} [file] Name of the file in the curl command, for `body`.
 */

const KEY = "precis.key";
/** @type {Set<() => void>} */
const keyWanted = new Set();

/** Whether the present key, or its absence, was refused before. */
let hasAsked = false;

/** Registers a function that asks for an API key. Returns a function that removes it. */
export function onKeyWanted(/** @type {() => void} */ ask) {
  keyWanted.add(ask);
  return () => keyWanted.delete(ask);
}

/** The API key of this tab, or an empty string. */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** @type {Set<() => void>} */
const keyChanges = new Set();

/** Registers a function that is called when the API key changes. */
export function onKeyChanged(/** @type {() => void} */ tell) {
  keyChanges.add(tell);
}

export function setApiKey(/** @type {string} */ key) {
  hasAsked = false;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Without storage, the key is asked for again.
  }
  keyChanges.forEach((tell) => tell());
}

/** An answer of the gateway that is not a success, or no answer (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {Partial<Problem>} problem
   */
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? T.errors.unreachable);
    this.status = status;
    this.problem = problem;
  }

  /** The stable error code, or an empty string. */
  get code() {
    return this.problem.code ?? "";
  }

  /** Whether a later attempt may succeed. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** @returns {Record<string, string>} */
function authorization() {
  const key = apiKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/**
 * Sends a call. Throws an `ApiError` for every answer that is not a success.
 * @param {Call} call
 * @param {AbortSignal} [signal]
 */
export async function send(call, signal) {
  /** @type {Record<string, string>} */
  const headers = { ...authorization(), ...call.headers };
  let body = call.body;
  if (call.json !== undefined) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(call.json);
  }
  let response;
  try {
    response = await fetch(call.path, { method: call.method, headers, body, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { title: T.errors.unreachable });
  }
  if (response.ok || response.status === 304) return response;
  const text = await response.text().catch(() => "");
  /** @type {Partial<Problem>} */
  let problem = { title: `${response.status} ${response.statusText}` };
  try {
    problem = JSON.parse(text);
  } catch {
    // A proxy may answer in its own format.
  }
  // A page that polls asks once; what a person starts asks each time.
  if (response.status === 401 && !(call.method === "GET" && hasAsked)) {
    hasAsked = true;
    keyWanted.forEach((ask) => ask());
  }
  throw new ApiError(response.status, problem);
}

/**
 * Sends a call and parses the JSON in the answer.
 * @template T
 * @param {Call} call
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function sendJson(call, signal) {
  return (await send(call, signal)).json();
}

/**
 * Adds query parameters to a path. Empty ones are left out.
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} values
 */
export function withQuery(path, values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

function quoted(/** @type {string} */ text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * The `curl` command for a call. It names the environment variable with the key, never the key.
 * @param {Call} call
 */
export function curlOf(call) {
  const parts = ["curl"];
  if (call.method !== "GET" && !(call.method === "POST" && (call.json !== undefined || call.body !== undefined))) {
    parts.push("-X", call.method);
  }
  parts.push(quoted(location.origin + call.path));
  if (apiKey()) parts.push("\\\n  -H", '"authorization: Bearer $PRECIS_API_KEY"');
  for (const [name, value] of Object.entries(call.headers ?? {})) parts.push("\\\n  -H", quoted(`${name}: ${value}`));
  if (call.json !== undefined) parts.push("\\\n  --json", quoted(JSON.stringify(call.json)));
  else if (call.body !== undefined) parts.push("\\\n  --data-binary", `@${call.file ?? "FILE"}`);
  return parts.join(" ");
}

/**
 * Reads Server-Sent Events from a response.
 * @param {Response} response
 * @returns {AsyncGenerator<{event: string, id: string, data: string}>}
 */
export async function* events(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const block = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        const event = { event: "message", id: "", data: "" };
        for (const line of block.split("\n")) {
          const at = line.indexOf(":");
          if (at <= 0) continue;
          const value = line.slice(at + 1).replace(/^ /, "");
          const name = line.slice(0, at);
          if (name === "data") event.data += (event.data ? "\n" : "") + value;
          else if (name === "event" || name === "id") event[name] = value;
        }
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Saves an answer as a file. */
export async function download(/** @type {Call} */ call, /** @type {string} */ name) {
  save(await (await send(call)).blob(), name);
}

/** Saves bytes as a file. */
export function save(/** @type {Blob} */ blob, /** @type {string} */ name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
