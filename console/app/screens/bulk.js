// Works through all that match a filter, page by page.
import { ApiError } from "../api.js";
import { count } from "../format.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { Button, Curl, Dialog, Problem } from "../parts/ui.js";
import { T } from "../text.js";

/**
 * What a page did. Without `next`, it was the last one.
 * @typedef {{done: number, skipped?: number, next?: any, stopped?: {code: import("../../types/rest").Problem["code"], message: string} | null}} Page
 */

/**
 * A dialog that counts, asks, and then works through pages. After a failure it goes on where it stopped.
 * @param {{
 *   words: {title: string, keep?: string, ask: (n: number) => string, button: (n: number) => string, done: (n: number) => string},
 *   total: (signal: AbortSignal, found: (n: number) => void) => Promise<number>,
 *   page: (position: any, signal: AbortSignal) => Promise<Page>,
 *   finish?: () => void,
 *   calls: import("../api.js").Call[],
 *   danger?: boolean,
 *   onClose: () => void,
 * }} props
 */
export function Bulk({ words, total, page, finish, calls, danger = false, onClose }) {
  const [n, setN] = useState(0);
  const [done, setDone] = useState(0);
  const [skipped, setSkipped] = useState(0);
  const [state, setState] = useState("counting");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const position = useRef(/** @type {any} */ (undefined));
  const stop = useRef(new AbortController());
  useEffect(() => {
    const { signal } = stop.current;
    total(signal, setN).then(
      (found) => {
        setN(found);
        setState("ready");
      },
      (failure) => !signal.aborted && setError(failure),
    );
    return () => stop.current.abort();
  }, []);
  const start = async () => {
    const { signal } = stop.current;
    setState("running");
    setError(null);
    try {
      for (;;) {
        const did = await page(position.current, signal);
        setDone((before) => before + did.done);
        setSkipped((before) => before + (did.skipped ?? 0));
        if (did.next !== undefined && did.next !== null) position.current = did.next;
        if (did.stopped) throw new ApiError(503, { code: did.stopped.code, detail: did.stopped.message });
        if (did.next === undefined || did.next === null) break;
      }
      finish?.();
      setState("done");
    } catch (failure) {
      if (signal.aborted) return;
      setError(failure);
      setState("stopped");
    }
  };
  const began = state === "running" || state === "done" || state === "stopped";
  return html`<${Dialog} title=${words.title} onClose=${onClose}>
    <div class="stack">
      <p>${state === "counting" ? `${T.jobs.counting} ${n ? count(n) : ""}` : words.ask(n)}</p>
      ${began && html`<progress aria-label=${words.title} max=${Math.max(n, done + skipped, 1)} value=${state === "done" ? Math.max(n, done + skipped, 1) : done + skipped}></progress><p role="status">${words.done(done)}${skipped ? `, ${T.jobs.skipped(skipped)}` : ""}</p>`}
      <${Problem} error=${error} />
      <div class="row end">
        <${Curl} calls=${calls} />
        <${Button} onClick=${onClose}>${state === "done" ? T.close : (words.keep ?? T.cancel)}<//>
        ${state !== "done" && html`<${Button} kind=${danger ? "danger" : "primary"} disabled=${(state !== "ready" && state !== "stopped") || !n} onClick=${start}>${state === "stopped" ? T.jobs.goOn : words.button(n)}<//>`}
      </div>
    </div>
  <//>`;
}
