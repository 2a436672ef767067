// Follows a job until it ends: by its event stream, and by polling where the stream breaks.
import { ApiError, events, send, sendJson } from "./api.js";
import { useEffect, useState } from "./lib.js";

/** @typedef {import("../types/rest").JobView} JobView */

/**
 * What is known of a job.
 * @typedef {object} Followed
 * @property {JobView} [job]
 * @property {string} [text] The summary so far.
 * @property {ApiError} [error] Why nothing more will come.
 * @property {boolean} [retrying] Whether the connection is lost and being restored.
 */

const FINAL = new Set(["succeeded", "failed", "cancelled", "expired"]);
const MAX_PAUSE_MS = 10_000;

export function isFinal(/** @type {JobView | undefined} */ job) {
  return job !== undefined && FINAL.has(job.status);
}

function pause(/** @type {number} */ ms, /** @type {AbortSignal} */ signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
}

/**
 * @param {string} id
 * @param {(change: Followed) => void} onChange
 * @param {AbortSignal} signal
 */
export async function follow(id, onChange, signal) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  let last = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      if (failures < 3) {
        /** @type {Record<string, string>} */
        const headers = { accept: "text/event-stream" };
        if (last) headers["last-event-id"] = last;
        const response = await send({ method: "GET", path: `${path}/events`, headers }, signal);
        if (response.status === 204) last = "";
        else {
          for await (const event of events(response)) {
            failures = 0;
            if (event.id) last = event.id;
            const data = JSON.parse(event.data);
            if (event.event === "text") onChange({ text: data.text, retrying: false });
            else onChange({ job: data, retrying: false });
            if (event.event === "result") return;
          }
        }
      } else {
        // Some proxies hold back event streams: poll instead.
        const job = await sendJson({ method: "GET", path: `${path}?wait=10` }, signal);
        onChange({ job, retrying: false });
        if (isFinal(job)) return;
        failures = 3;
        continue;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && !error.passes) {
        onChange({ error, retrying: false });
        return;
      }
    }
    failures += 1;
    onChange({ retrying: true });
    await pause(Math.min(250 * 2 ** failures, MAX_PAUSE_MS), signal);
  }
}

/**
 * The state of a job, kept up to date. An empty id follows nothing.
 * @param {string} id
 * @returns {Followed}
 */
export function useJob(id) {
  const [state, setState] = useState(/** @type {{id: string} & Followed} */ ({ id }));
  useEffect(() => {
    setState({ id });
    if (!id) return;
    const stop = new AbortController();
    follow(id, (change) => setState((before) => (before.id === id ? { ...before, ...change } : before)), stop.signal);
    return () => stop.abort();
  }, [id]);
  return state.id === id ? state : {};
}
