// Generation parameters as a form. Only changed parameters are sent.
import { html } from "../lib.js";
import { T } from "../text.js";
import { Button, Field } from "./ui.js";

/** @typedef {import("../../types/rest").ModelView} ModelView */
/** @typedef {Record<string, string>} Values Settings as they are in the address. */

/** @type {Record<string, {kind: "number" | "choice", min?: number, max?: number, step?: number, choices?: string[], advanced?: boolean, samplingOnly?: boolean}>} */
export const PARAMS = {
  num_beams: { kind: "number", min: 1, max: 64, step: 1 },
  min_new_tokens: { kind: "number", min: 0, max: 512, step: 1 },
  max_new_tokens: { kind: "number", min: 1, max: 512, step: 1 },
  long_text: { kind: "choice", choices: ["truncate", "map_reduce"] },
  do_sample: { kind: "choice", choices: ["true", "false"] },
  temperature: { kind: "number", min: 0.05, max: 100, step: 0.05, samplingOnly: true },
  top_k: { kind: "number", min: 0, step: 1, samplingOnly: true },
  top_p: { kind: "number", min: 0.01, max: 1, step: 0.01, samplingOnly: true },
  seed: { kind: "number", min: 0, step: 1, samplingOnly: true },
  length_penalty: { kind: "number", min: -10, max: 10, step: 0.1, advanced: true },
  no_repeat_ngram_size: { kind: "number", min: 0, max: 64, step: 1, advanced: true },
  repetition_penalty: { kind: "number", min: 0.1, max: 10, step: 0.1, advanced: true },
  early_stopping: { kind: "choice", choices: ["true", "false", "never"], advanced: true },
  first_sentence: { kind: "choice", choices: ["true", "false"], advanced: true },
};

/** The parameters for a request. */
export function paramsOf(/** @type {Values} */ values) {
  /** @type {Record<string, unknown>} */
  const params = {};
  for (const [name, { kind }] of Object.entries(PARAMS)) {
    const text = values[name];
    if (!text) continue;
    if (kind === "number") params[name] = Number(text);
    else params[name] = text === "true" ? true : text === "false" ? false : text;
  }
  return params;
}

function label(/** @type {string} */ name) {
  return T.params[/** @type {keyof typeof T.params} */ (name)];
}

function choiceName(/** @type {string} */ choice) {
  return T.choices[/** @type {keyof typeof T.choices} */ (choice)] ?? choice;
}

function Param(/** @type {any} */ { name, values, onChange }) {
  const { kind, choices, min, max, step } = PARAMS[name];
  const [title, hint] = label(name);
  const value = values[name] ?? "";
  const change = (/** @type {any} */ event) => onChange({ [name]: event.target.value });
  return html`<${Field} label=${title} hint=${hint}>
    ${kind === "choice"
      ? html`<select value=${value} onChange=${change}>
          <option value="">${T.summarize.fallback}</option>
          ${choices?.map((choice) => html`<option value=${choice}>${choiceName(choice)}</option>`)}
        </select>`
      : html`<input type="number" inputmode="decimal" min=${min} max=${max} step=${step} placeholder=${T.summarize.fallback}
          value=${value} onInput=${change} />`}
  <//>`;
}

/**
 * The form.
 * @param {{title: string, values: Values, models: ModelView[], onChange: (changes: Values) => void}} props
 */
export function Settings({ title, values, models, onChange }) {
  const changed = Object.keys(values).filter((name) => values[name]);
  const sampling = values.do_sample === "true";
  const shown = (/** @type {boolean} */ advanced) =>
    Object.entries(PARAMS).filter(([, param]) => !!param.advanced === advanced && (!param.samplingOnly || sampling));
  const reset = () => onChange(Object.fromEntries(changed.map((name) => [name, ""])));
  const form = (/** @type {boolean} */ advanced) =>
    html`<div class="fields">${shown(advanced).map(([name]) => html`<${Param} key=${name} name=${name} values=${values} onChange=${onChange} />`)}</div>`;
  const hidden = changed.filter((name) => PARAMS[name]?.advanced).length;
  return html`<fieldset class="settings">
    ${title && html`<legend>${title}</legend>`}
    ${changed.length > 0 && html`<${Button} kind="quiet" class="reset" onClick=${reset}>${T.summarize.reset}<//>`}
    <${Field} label=${label("model")[0]} class="whole">
      <select value=${values.model ?? ""} onChange=${(/** @type {any} */ event) => onChange({ model: event.target.value })}>
        <option value="">${label("model")[1]}</option>
        ${models.map((model) => html`<option value=${model.served_as}>${model.name} (${model.served_as})</option>`)}
        ${values.model && !models.some((model) => model.served_as === values.model) && html`<option value=${values.model}>${values.model}</option>`}
      </select>
    <//>
    ${form(false)}
    <details open=${hidden > 0}>
      <summary>${T.summarize.advanced}</summary>
      ${form(true)}
    </details>
  </fieldset>`;
}
