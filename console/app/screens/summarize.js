// Summarize one text, with one set of settings or two side by side.
import { sendJson } from "../api.js";
import { isFinal, useJob } from "../follow.js";
import { count } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { offer } from "../parts/palette.js";
import { Result } from "../parts/result.js";
import { Reference } from "../parts/scores.js";
import { PARAMS, Settings, paramsOf } from "../parts/settings.js";
import { Button, Curl, Field, Marked, Menu, Problem } from "../parts/ui.js";
import { common, provenance } from "../provenance.js";
import { currentRoute, go, hrefOf, setQuery } from "../route.js";
import { samples } from "../samples.js";
import { loadDraft, rememberText, saveDraft, textOf } from "../storage.js";
import { T } from "../text.js";

const NAMES = ["model", ...Object.keys(PARAMS)];
const t = T.summarize;

/** The settings of side A or B in the address. B's names begin with `b.`. */
function settingsOf(/** @type {URLSearchParams} */ query, /** @type {string} */ prefix) {
  return Object.fromEntries(NAMES.map((name) => [name, query.get(prefix + name) ?? ""]));
}

/** The call that submits a text. */
function submitCall(/** @type {any} */ draft, /** @type {Record<string, string>} */ settings, /** @type {URLSearchParams} */ query) {
  /** @type {Record<string, unknown>} */
  const json = { text: draft.text };
  const params = paramsOf(settings);
  if (Object.keys(params).length) json.params = params;
  if (settings.model) json.model = settings.model;
  if (draft.reference.trim()) json.reference = draft.reference;
  if (query.get("priority")) json.priority = query.get("priority");
  if (query.get("arize")) json.send_to_arize = query.get("arize") === "true";
  return { method: "POST", path: "/v1/summaries", json };
}

async function readText(/** @type {File} */ file) {
  return new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
}

/** The text with the passages that the active sentence comes from. */
function Source(/** @type {any} */ { text, marks }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const first = box.current?.querySelector("mark.source, mark.passage");
    if (!first || !box.current) return;
    const [mark, view] = [first.getBoundingClientRect(), box.current.getBoundingClientRect()];
    if (mark.top < view.top || mark.bottom > view.bottom) {
      box.current.scrollTop += mark.top - view.top - view.height / 3;
    }
  }, [marks]);
  return html`<div class="reading" ref=${box} tabindex="0" role="region" aria-label=${t.source}><${Marked} text=${text} marks=${marks} /></div>`;
}

/** @param {{route: import("../route.js").Route, models: any}} props */
export function Summarize({ route, models }) {
  const { query } = route;
  const [idA, idB] = [query.get("job") ?? "", query.get("jobB") ?? ""];
  const compare = query.get("compare") === "1";
  const [draft, setDraft] = useState(loadDraft);
  const [editing, setEditing] = useState(!idA);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [showSettings, setShowSettings] = useState(!idA);
  const [dropping, setDropping] = useState(false);
  const [active, setActive] = useState({ side: 0, index: -1 });
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const a = useJob(idA);
  const b = useJob(idB);

  useEffect(() => {
    const timer = setTimeout(() => saveDraft(draft), 300);
    return () => clearTimeout(timer);
  }, [draft]);
  // Another job in the address, for example after “back”: show its text.
  const stored = useMemo(() => (idA ? textOf(idA) : undefined), [idA]);
  useEffect(() => {
    if (idA) setEditing(false);
    if (stored) setDraft(stored);
    setActive({ side: 0, index: -1 });
  }, [idA]);

  const { text, reference } = draft;
  const change = (/** @type {Partial<typeof draft>} */ changes) => setDraft((before) => ({ ...before, ...changes }));
  const settings = { a: settingsOf(query, ""), b: settingsOf(query, "b.") };
  const callA = submitCall(draft, settings.a, query);
  const callB = submitCall(draft, settings.b, query);
  const limit = models.models.find((/** @type {any} */ model) => (settings.a.model ? model.served_as === settings.a.model : model.default))?.limits.max_text_chars;
  const tooLong = limit !== undefined && text.length > limit;
  const canRun = text.trim() !== "" && !busy && !tooLong;
  const live = models.failed || !models.known || models.models.length > 0;

  const run = async () => {
    if (!canRun) return;
    setBusy(true);
    setError(null);
    try {
      const calls = compare ? [callA, callB] : [callA];
      const jobs = await Promise.all(calls.map((call) => sendJson(call)));
      const ids = jobs.map((/** @type {any} */ job) => job.id);
      rememberText(ids, draft);
      setEditing(false);
      setShowSettings(false);
      const now = Object.fromEntries(currentRoute().query);
      go(hrefOf("summarize", "", { ...now, job: ids[0], jobB: ids[1] }));
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  const toggleCompare = () => {
    setQuery({ compare: compare ? "" : "1" });
    setShowSettings(true);
  };
  // A new entry of the history, so that “back” returns to the job.
  const leaveJob = () => setQuery({ job: "", jobB: "" }, { replace: !idA });
  const edit = () => setEditing(true);
  const clear = () => {
    change({ text: "", reference: "" });
    setEditing(true);
    leaveJob();
  };
  const load = async (/** @type {string} */ id) => {
    try {
      const all = await samples();
      const sample = all.find((one) => one.id === id) ?? all[Math.floor(Math.random() * all.length)];
      setDraft({ text: sample.article, reference: sample.summary ?? sample.reference ?? "" });
      setEditing(true);
      setError(null);
      leaveJob();
    } catch (failure) {
      setError(failure);
    }
  };
  const take = async (/** @type {File | undefined} */ file) => {
    setDropping(false);
    if (!file) return;
    try {
      change({ text: await readText(file), reference: "" });
      setEditing(true);
      setError(null);
      leaveJob();
    } catch {
      setError(new Error(t.notText(file.name)));
    }
  };
  useEffect(() => offer({ label: t.run, hint: "Ctrl-Enter", run }));
  useEffect(() => offer({ label: t.random, run: () => load("") }), []);
  useEffect(() => offer({ label: t.compare, run: toggleCompare }));
  useEffect(() => {
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
        event.preventDefault();
        run();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });

  const [sampleList, setSampleList] = useState(/** @type {import("../samples.js").Sample[]} */ ([]));
  useEffect(() => {
    samples().then(setSampleList, () => {});
  }, []);

  const shown = [a, b].map((followed) => followed.job?.summary ?? "");
  const source = stored || !idA ? text : undefined;
  const modes = ["source", ...(reference.trim() && shown[0] ? ["reference"] : []), ...(shown[0] && shown[1] ? ["difference"] : [])];
  const wantedMode = query.get("marks") ?? (idB ? "difference" : "source");
  const mode = modes.includes(wantedMode) ? wantedMode : "source";
  const sourceMarks = useMemo(() => {
    if (mode === "reference") return common(text, reference);
    const summary = shown[active.side];
    if (active.index < 0 || !summary) return [];
    const sentence = provenance(summary, text).sentences[active.index];
    if (!sentence) return [];
    return [
      ...(sentence.passage ? [{ ...sentence.passage, kind: "passage" }] : []),
      ...sentence.sources.map((span) => ({ ...span, kind: "source" })),
    ];
  }, [mode, text, reference, shown[0], shown[1], active]);

  const side = (/** @type {0 | 1} */ index) => {
    const id = index ? idB : idA;
    return html`<${Result} key=${id} id=${id} followed=${index ? b : a} title=${idB ? "AB"[index] : t.result} source=${source} reference=${reference}
      other=${shown[1 - index]} marksMode=${mode} live=${live} onAgain=${run}
      active=${active.side === index ? active.index : -1} onActive=${(/** @type {number} */ at) => setActive({ side: index, index: at })} />`;
  };
  const finished = [
    { id: idA, title: "A", summary: shown[0], followed: a },
    { id: idB, title: "B", summary: shown[1], followed: b },
  ].filter(({ id, summary, followed }) => id && summary && isFinal(followed.job));
  const wordCount = useMemo(() => (text.match(/\S+/g) ?? []).length, [text]);

  return html`<section class="summarize"
      onDragOver=${(/** @type {DragEvent} */ event) => { if (event.dataTransfer?.types.includes("Files")) { event.preventDefault(); setDropping(true); } }}
      onDragLeave=${(/** @type {DragEvent} */ event) => event.currentTarget === event.target && setDropping(false)}
      onDrop=${(/** @type {DragEvent} */ event) => { event.preventDefault(); take(event.dataTransfer?.files[0]); }}>
    <h1 class="sr">${t.title}</h1>
    ${dropping && html`<div class="dropping">${t.dropHere}</div>`}
    <div class="pane source-pane">
      <div class="bar">
        <h2>${t.source}</h2>
        <span class=${`hint ${tooLong ? "bad" : ""}`}>${text ? t.counts(wordCount, text.length) : ""}</span>
        <span class="spacer"></span>
        <${Menu} label=${t.sample} icon="" kind="quiet" items=${[
          { label: t.random, run: () => load("") },
          ...sampleList.map((sample) => ({ label: sample.title, hint: `${count(sample.article.split(/\s+/).length)} words`, run: () => load(sample.id) })),
        ]} />
        <${Button} kind="quiet" icon="file" onClick=${() => input.current?.click()}>${t.open}<//>
        <input ref=${input} type="file" accept="text/*,.txt,.md" hidden aria-label=${t.open}
          onChange=${(/** @type {any} */ event) => { take(event.target.files[0]); event.target.value = ""; }} />
        ${!editing && source !== undefined && html`<${Button} kind="quiet" icon="edit" onClick=${edit}>${t.edit}<//>`}
        ${text && html`<${Button} kind="quiet" icon="close" aria-label=${t.clear} title=${t.clear} onClick=${clear} />`}
      </div>
      ${editing || (source !== undefined && !text)
        ? html`<textarea class="text" aria-label=${t.source} placeholder=${t.placeholder} value=${text} spellcheck="false"
            onInput=${(/** @type {any} */ event) => change({ text: event.target.value })}></textarea>`
        : source === undefined
          ? html`<p class="hint empty">${t.noText}</p>`
          : html`<${Source} text=${text} marks=${sourceMarks} />`}
      ${tooLong && html`<p class="note bad">${t.tooLong(limit)}</p>`}
    </div>
    <div class="pane result-pane">
      <div class="bar run-bar">
        <${Button} needs="submit" kind="primary" icon="play" disabled=${!canRun} title="Ctrl-Enter" onClick=${run}>${busy ? t.running : idA ? t.again : t.run}<//>
        <${Button} kind=${compare ? "on" : ""} icon="compare" aria-pressed=${compare} title=${t.compareHint} onClick=${toggleCompare}>${t.compare}<//>
        <span class="spacer"></span>
        ${modes.length > 1 && html`<div class="segmented" role="group" aria-label=${t.marks}>
          ${modes.map((name) => html`<button type="button" aria-pressed=${mode === name} onClick=${() => setQuery({ marks: name })}>${{ source: t.marksSource, reference: t.marksReference, difference: t.marksDifference }[name]}</button>`)}
        </div>`}
        ${text.trim() && html`<${Curl} calls=${compare ? [callA, callB] : [callA]} />`}
      </div>
      <details class="card" open=${showSettings} onToggle=${(/** @type {any} */ event) => setShowSettings(event.currentTarget.open)}>
        <summary>${t.settings}</summary>
        <div class=${`sides ${compare ? "two" : ""}`}>
          <${Settings} title=${compare ? t.settingsOf("A") : ""} values=${settings.a} models=${models.models} onChange=${(/** @type {any} */ changes) => setQuery(changes)} />
          ${compare && html`<${Settings} title=${t.settingsOf("B")} values=${settings.b} models=${models.models}
            onChange=${(/** @type {any} */ changes) => setQuery(Object.fromEntries(Object.entries(changes).map(([name, value]) => [`b.${name}`, /** @type {string} */ (value)])))} />`}
        </div>
        <div class="fields shared">
          <${Field} label=${t.priority}>
            <select value=${query.get("priority") ?? ""} onChange=${(/** @type {any} */ event) => setQuery({ priority: event.target.value })}>
              <option value="">${T.choices.normal}</option>
              <option value="high">${T.choices.high}</option>
              <option value="bulk">${T.choices.bulk}</option>
            </select>
          <//>
          <${Field} label=${t.arize} hint=${t.arizeHint}>
            <select value=${query.get("arize") ?? ""} onChange=${(/** @type {any} */ event) => setQuery({ arize: event.target.value })}>
              <option value="">${T.choices.sampled}</option>
              <option value="true">${t.yes}</option>
              <option value="false">${t.no}</option>
            </select>
          <//>
        </div>
      </details>
      <${Problem} error=${error} retry=${text.trim() ? run : undefined} />
      ${idA
        ? html`<div class=${`results ${idB ? "two" : ""}`}>${side(0)}${idB && side(1)}</div>`
        : html`<div class="empty"><p>${t.empty}</p><p class="hint">${t.emptyHint}</p></div>`}
      <${Reference} results=${finished} reference=${reference} onReference=${(/** @type {string} */ value) => change({ reference: value })}
        shown=${mode === "reference" ? html`<div class="reading small"><${Marked} text=${reference} marks=${common(reference, `${shown[0]} ${shown[1]}`)} /></div>` : null} />
    </div>
  </section>`;
}
