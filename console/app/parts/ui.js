// Small parts that every screen uses.
import { ApiError, curlOf, sendJson } from "../api.js";
import { useAccess } from "../access.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { pieces } from "../provenance.js";
import { T } from "../text.js";
import { Icon } from "./icons.js";

/** @typedef {import("../api.js").Call} Call */
/** @typedef {import("../provenance.js").Mark} Mark */

/** A button. `kind` is `primary`, `quiet`, `danger` or empty. It is disabled for keys without the right that it `needs`. */
export function Button(/** @type {any} */ { kind = "", icon = "", children, class: extra = "", needs, disabled, title, ...rest }) {
  const refused = useAccess().reason(needs);
  return html`<button type="button" class=${`button ${kind} ${extra}`} disabled=${disabled || !!refused} title=${refused || title} ...${rest}>
    ${icon && html`<${Icon} name=${icon} />`}${children && html`<span>${children}</span>`}
  </button>`;
}

/** A button that copies a text. */
export function Copy(/** @type {{text: string, label?: string, bare?: boolean}} */ { text, label = T.copy, bare }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setCopied(true));
  const shown = copied ? T.copied : label;
  return html`<${Button} kind="quiet" icon=${copied ? "check" : "copy"} aria-label=${shown} title=${shown} onClick=${copy}>${bare ? "" : shown}<//>`;
}

/** A dialog that is open while it is shown. */
export function Dialog(/** @type {any} */ { title, onClose, children, class: extra = "" }) {
  const box = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const dialog = box.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  const backdrop = (/** @type {MouseEvent} */ event) => event.target === box.current && onClose();
  return html`<dialog ref=${box} class=${`dialog ${extra}`} aria-label=${title} onClose=${onClose} onClick=${backdrop}>
    <header>
      <h2>${title}</h2>
      <${Button} kind="quiet" icon="close" aria-label=${T.close} onClick=${onClose} />
    </header>
    ${children}
  </dialog>`;
}

/** A button that shows the `curl` commands of a view. */
export function Curl(/** @type {{calls: Call[], bare?: boolean}} */ { calls, bare }) {
  const [open, setOpen] = useState(false);
  return html`<${Button} kind="quiet" icon="terminal" aria-label="curl" title=${T.curl.title} onClick=${() => setOpen(true)}>${bare ? "" : "curl"}<//>
    ${open &&
    html`<${Dialog} title=${T.curl.title} class="wide" onClose=${() => setOpen(false)}>
      <p class="hint">${T.curl.hint}</p>
      ${calls.map((call) => html`<div class="code"><pre>${curlOf(call)}</pre><${Copy} text=${curlOf(call)} /></div>`)}
    <//>`}`;
}

/** An error of the gateway, with its code and the page that explains it. */
export function Problem(/** @type {{error: unknown, retry?: () => void}} */ { error, retry }) {
  if (!error) return null;
  const known = error instanceof ApiError ? error : null;
  const message = error instanceof Error ? error.message : String(error);
  return html`<div class="problem" role="alert">
    <${Icon} name="alert" />
    <div>
      <p>${message}</p>
      <p class="hint">
        ${known?.code && html`<a href=${`/errors/${known.code}`} target="_blank" rel="noopener">${known.code}</a>`}
        ${known?.problem.request_id && html` · ${T.errors.request} <code>${known.problem.request_id}</code>`}
      </p>
    </div>
    ${retry && html`<${Button} icon="refresh" onClick=${retry}>${T.retry}<//>`}
  </div>`;
}

/** The state of a job or batch, as a coloured word. */
export function Status(/** @type {{status: string}} */ { status }) {
  return html`<span class=${`status ${status}`}>${T.status[/** @type {keyof typeof T.status} */ (status)] ?? status}</span>`;
}

/** A text with marks. `active` marks get the class `active` too. */
export function Marked(/** @type {{text: string, marks: Mark[]}} */ { text, marks }) {
  return pieces(text, marks).map(({ start, text: piece, kinds, title }) =>
    kinds.length
      ? html`<mark key=${start} class=${kinds.join(" ")} title=${title} data-at=${start}>${piece}</mark>`
      : piece,
  );
}

/** A label with its control. */
export function Field(/** @type {any} */ { label, hint = "", children, class: extra = "" }) {
  return html`<label class=${`field ${extra}`}>
    <span class="label">${label}</span>
    ${children}
    ${hint && html`<span class="hint">${hint}</span>`}
  </label>`;
}

/** A menu button: a list of actions in a popover. */
export function Menu(/** @type {any} */ { label, icon, items, kind = "" }) {
  const [open, setOpen] = useState(false);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    if (!open) return;
    box.current?.querySelector(/** @type {"button"} */ ("[role=menuitem]"))?.focus();
    const outside = (/** @type {Event} */ event) => {
      if (!box.current?.contains(/** @type {Node} */ (event.target))) setOpen(false);
    };
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, [open]);
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const list = /** @type {HTMLElement[]} */ ([...(box.current?.querySelectorAll("[role=menuitem]") ?? [])]);
    const at = list.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      list[(at + step + list.length) % list.length]?.focus();
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      setOpen(false);
      box.current?.querySelector("button")?.focus();
    }
  };
  return html`<div class="menu" ref=${box} onKeyDown=${keys}>
    <${Button} kind=${kind} icon=${icon} aria-haspopup="menu" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      ${label} <${Icon} name="chevron" size=${12} />
    <//>
    ${open &&
    html`<div role="menu" class="menu-list">
      ${items.map(
        (/** @type {any} */ item) =>
          html`<button type="button" role="menuitem" tabindex="-1" onClick=${() => { setOpen(false); item.run(); }}>
            ${item.label}${item.hint && html`<span class="hint">${item.hint}</span>`}
          </button>`,
      )}
    </div>`}
  </div>`;
}

/** Loads something again whenever `key` changes. */
export function useLoad(/** @type {(signal: AbortSignal) => Promise<any>} */ load, /** @type {unknown[]} */ inputs) {
  const [state, setState] = useState(/** @type {{data?: any, error?: unknown, loading: boolean}} */ ({ loading: true }));
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(stop.signal).then(
      (data) => !stop.signal.aborted && setState({ data, loading: false }),
      (error) => !stop.signal.aborted && setState((before) => ({ data: before.data, error, loading: false })),
    );
    return () => stop.abort();
  }, [...inputs, round]);
  return { ...state, reload: () => setRound((before) => before + 1) };
}

/** Loads something again and again while the page is visible. */
export function usePolled(/** @type {string} */ path, interval = 3_000) {
  const [state, setState] = useState(/** @type {{data?: any, error?: unknown}} */ ({}));
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    const load = () => {
      if (document.hidden) return;
      sendJson({ method: "GET", path }, stop.signal).then(
        (data) => setState({ data }),
        (error) => !stop.signal.aborted && setState((before) => ({ ...before, error })),
      );
    };
    load();
    const timer = setInterval(load, interval);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [path, round]);
  return { ...state, reload: () => setRound((before) => before + 1) };
}

/** A text field that reports its value after a pause. */
export function Lazy(/** @type {any} */ { value, onValue, ...rest }) {
  const [text, setText] = useState(value);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  useEffect(() => setText(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (/** @type {any} */ event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onValue(next), 350);
  };
  return html`<input ...${rest} value=${text} onInput=${change} />`;
}
