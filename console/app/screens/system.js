// The parts of the deployment, its configuration, and the sample history.
import { send, sendJson } from "../api.js";
import { count, date } from "../format.js";
import { html, useState } from "../lib.js";
import { Button, Copy, Curl, Dialog, Problem, useLoad, usePolled } from "../parts/ui.js";
import { hrefOf } from "../route.js";
import { T } from "../text.js";

/** @typedef {import("../../types/rest").StatusView} StatusView */
/** @typedef {import("../../types/rest").SampleHistory} SampleHistory */

const t = T.operations;
const STATUS = { method: "GET", path: "/v1/status" };
const CONFIGURATION = { method: "GET", path: "/v1/configuration" };
const HISTORY = { method: "GET", path: "/v1/sample-history" };
const TONES = { up: "good", down: "bad", off: "off", unknown: "" };

/** Which parts work, and what waits for them. */
export function Health() {
  const { data, error } = usePolled(STATUS.path, 6_000);
  /** @type {StatusView["parts"]} */
  const parts = data?.parts ?? [];
  const all = [{ name: "gateway", state: error ? "down" : data ? "up" : undefined }, ...(parts.length ? parts : [{ name: "nats" }, { name: "clickhouse" }, { name: "monitor" }])];
  const webhooks = data?.webhooks;
  const failing = parts.filter((part) => part.detail);
  return html`<section class="stack system">
    <div class="health-row" role="status">
      ${all.map((/** @type {any} */ { name, state, waiting }) => {
        // What was known of the others is out of date while the gateway is away.
        const shown = error && name !== "gateway" ? undefined : state;
        return html`<div key=${name} class=${`health ${TONES[/** @type {keyof typeof TONES} */ (shown)] ?? ""}`}><i></i><span>${t.parts[/** @type {keyof typeof t.parts} */ (name)] ?? name}</span><strong>${shown ? t.states[/** @type {keyof typeof t.states} */ (shown)] : "…"}</strong>${waiting ? html`<span class="hint">${t.waiting(waiting)}</span>` : ""}</div>`;
      })}
      ${webhooks && html`<div class=${`health ${webhooks.waiting + webhooks.in_flight ? "busy" : "good"}`}><i></i><span>${t.webhooks}</span><strong>${webhooks.waiting + webhooks.in_flight ? t.webhooksWaiting(webhooks.waiting, webhooks.in_flight) : t.noWebhooks}</strong></div>`}
    </div>
    ${failing.length > 0 && html`<ul class="failing">${failing.map((part) => html`<li key=${part.name}><strong>${t.parts[/** @type {keyof typeof t.parts} */ (part.name)] ?? part.name}</strong> ${part.detail}</li>`)}</ul>`}
  </section>`;
}

/** The configuration as the gateway uses it, loaded when it is opened. */
export function Configuration() {
  const [open, setOpen] = useState(false);
  return html`<details class="card" open=${open} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
    <summary>${t.configuration}</summary>
    ${open && html`<${ConfigurationText} />`}
  </details>`;
}

function ConfigurationText() {
  const { data, error, reload } = useLoad(async (signal) => (await send(CONFIGURATION, signal)).text(), []);
  return html`<div class="padded">
    <div class="row"><p class="hint">${t.configurationHint}</p><span class="spacer"></span><${Curl} calls=${[CONFIGURATION]} /></div>
    <${Problem} error=${error} retry=${reload} />
    ${data && html`<div class="code"><pre class="tall" tabindex="0" aria-label=${t.configuration}>${data}</pre><${Copy} text=${data} /></div>`}
  </div>`;
}

/** The sample history: what is stored of it, and how to load and remove it. */
export function SampleData() {
  const { data, error, reload } = useLoad((signal) => sendJson(HISTORY, signal), []);
  const [dialog, setDialog] = useState("");
  /** @type {SampleHistory | undefined} */
  const stored = data;
  const has = Boolean(stored?.predictions);
  return html`<section class="card padded samples">
    <div class="head">
      <div><h2>${t.samples.title}</h2><p class="hint">${has && stored ? t.samples.stored(stored.predictions, date(stored.from), date(stored.to)) : t.samples.hint}</p></div>
      <div class="row">
        ${has && html`<a class="button" href=${hrefOf("analytics", "", { range: "30d" })}>${t.samples.charts}</a><a class="button" href=${hrefOf("jobs", "", { tenant: "sample-history", range: "30d" })}>${t.samples.jobs}</a>`}
        ${has
          ? html`<${Button} needs="all_tenants" kind="danger" onClick=${() => setDialog("remove")}>${t.samples.remove}<//>`
          : html`<${Button} needs="all_tenants" disabled=${!stored} onClick=${() => setDialog("load")}>${t.samples.load}<//>`}
        <${Curl} calls=${[HISTORY, { ...HISTORY, method: "POST" }, { ...HISTORY, method: "DELETE" }]} />
      </div>
    </div>
    <${Problem} error=${error} retry=${reload} />
    ${dialog && html`<${Confirmation} action=${dialog} stored=${stored} onClose=${() => { setDialog(""); reload(); }} />`}
  </section>`;
}

function Confirmation(/** @type {{action: string, stored?: SampleHistory, onClose: () => void}} */ { action, stored, onClose }) {
  const [state, setState] = useState("ready");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [result, setResult] = useState(/** @type {SampleHistory | null} */ (null));
  const words = action === "load" ? t.samples.loading : t.samples.removing;
  const before = stored?.predictions ?? 0;
  const start = async () => {
    setState("running");
    setError(null);
    try {
      setResult(await sendJson({ ...HISTORY, method: action === "load" ? "POST" : "DELETE" }));
      setState("done");
    } catch (failure) {
      setError(failure);
      setState("ready");
    }
  };
  return html`<${Dialog} title=${words.title} onClose=${onClose}>
    <div class="stack">
      ${state === "done" ? html`<p role="status">${words.done(action === "load" ? (result?.predictions ?? 0) : before)}</p>` : html`<p>${words.ask(count(before))}</p>`}
      ${state === "running" && html`<progress aria-label=${words.title}></progress>`}
      <${Problem} error=${error} />
      <div class="row end">
        <${Button} onClick=${onClose}>${state === "done" ? T.close : T.cancel}<//>
        ${state !== "done" && html`<${Button} kind=${action === "load" ? "primary" : "danger"} disabled=${state === "running"} onClick=${start}>${words.button(before)}<//>`}
      </div>
    </div>
  <//>`;
}
