// The shell: navigation, theme, API key, commands and shortcuts around the screens.
import { useAccess } from "./access.js";
import { apiKey, onKeyWanted, sendJson, setApiKey } from "./api.js";
import { Component, html, render, useEffect, useRef, useState } from "./lib.js";
import { Icon } from "./parts/icons.js";
import { Palette, Shortcuts } from "./parts/palette.js";
import { Button, Dialog } from "./parts/ui.js";
import { go, hrefOf, useRoute } from "./route.js";
import { Analytics } from "./screens/analytics.js";
import { Batches } from "./screens/batches.js";
import { Jobs } from "./screens/jobs.js";
import { Operations } from "./screens/operations.js";
import { Summarize } from "./screens/summarize.js";
import { T } from "./text.js";

/** @typedef {import("../types/rest").ModelView} ModelView */

/** @type {Record<string, any>} */
const SCREENS = { summarize: Summarize, batches: Batches, jobs: Jobs, analytics: Analytics, operations: Operations };
const THEMES = /** @type {const} */ (["system", "light", "dark"]);

/** @returns {typeof THEMES[number]} */
function chosenTheme() {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

function useTheme() {
  const [theme, setTheme] = useState(chosenTheme);
  const choose = (/** @type {string} */ next) => {
    const root = document.documentElement;
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      if (next === "system") localStorage.removeItem("precis.theme");
      else localStorage.setItem("precis.theme", next);
    } catch {
      // Without storage, the choice lasts as long as the page.
    }
    setTheme(chosenTheme());
  };
  return { theme, next: () => choose(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]) };
}

/** The served models, asked for every few seconds while the page is visible. */
function useModels(/** @type {number} */ round) {
  const [state, setState] = useState(/** @type {{models: ModelView[], known: boolean, failed: boolean}} */ ({ models: [], known: false, failed: false }));
  useEffect(() => {
    let stopped = false;
    const load = () => {
      if (document.hidden) return;
      sendJson({ method: "GET", path: "/v1/models" }).then(
        (/** @type {any} */ list) => !stopped && setState({ models: list.models, known: true, failed: false }),
        () => !stopped && setState((before) => ({ ...before, failed: true })),
      );
    };
    load();
    const timer = setInterval(load, 5_000);
    document.addEventListener("visibilitychange", load);
    return () => {
      stopped = true;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", load);
    };
  }, [round]);
  return state;
}

function KeyDialog(/** @type {{wanted: boolean, onClose: () => void, onSaved: () => void}} */ { wanted, onClose, onSaved }) {
  const [key, setKey] = useState(apiKey());
  const save = (/** @type {string} */ next) => {
    setApiKey(next.trim());
    onSaved();
  };
  return html`<${Dialog} title=${T.key.title} onClose=${onClose}>
    <form class="stack" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); save(key); }}>
      ${wanted && html`<p>${T.key.needed}</p>`}
      <input type="password" autocomplete="off" autofocus aria-label=${T.key.title} placeholder="precis_…" value=${key}
        onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />
      <p class="hint">${T.key.hint}</p>
      <div class="row end">
        ${apiKey() && html`<${Button} onClick=${() => save("")}>${T.key.forget}<//>`}
        <button class="button primary" disabled=${!key.trim()}>${T.key.save}</button>
      </div>
    </form>
  <//>`;
}

/** Shows a message in place of a screen that fails. */
class Boundary extends Component {
  /** @type {{failed: boolean}} */
  state = { failed: false };

  componentDidCatch(/** @type {unknown} */ error) {
    console.error(error);
    this.setState({ failed: true });
  }

  render() {
    return this.state.failed ? html`<p class="note bad">${T.errors.crashed}</p>` : this.props.children;
  }
}

function Workers(/** @type {any} */ { state }) {
  const workers = state.models.reduce((/** @type {number} */ sum, /** @type {ModelView} */ model) => sum + model.workers, 0);
  const kind = state.failed ? "bad" : !state.known ? "" : workers ? "good" : "warn";
  const text = state.failed ? T.models.unknown : !state.known ? "…" : workers ? T.models.some(workers) : T.models.none;
  return html`<span class=${`live ${kind}`} role="status"><i></i>${text}</span>`;
}

const RIGHTS = /** @type {const} */ (["submit", "read", "analytics", "operate"]);

/** Says what a key that may not do everything may do. */
function Rights() {
  const { access, may } = useAccess();
  if (!access || RIGHTS.every(may)) return null;
  const name = (/** @type {typeof RIGHTS[number]} */ right) => T.access.rights[right];
  const [held, lacking] = [RIGHTS.filter(may).map(name), RIGHTS.filter((right) => !may(right)).map(name)];
  return html`<p class="note rights" role="note">${T.access.note(held.join(", ") || T.access.nothing, lacking.join(", "))}</p>`;
}

function App() {
  const route = useRoute();
  const theme = useTheme();
  const [round, setRound] = useState(0);
  const models = useModels(round);
  const [dialog, setDialog] = useState("");
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const close = () => setDialog("");

  useEffect(() => onKeyWanted(() => setDialog((open) => open || "key-wanted")), []);
  useEffect(() => {
    const title = T.screens[/** @type {keyof typeof T.screens} */ (route.screen)];
    document.title = title ? `${title} · ${T.name}` : T.name;
  }, [route.screen]);
  useEffect(() => {
    let leader = 0;
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setDialog("palette");
        return;
      }
      const target = /** @type {HTMLElement} */ (event.target);
      const typing = target.closest?.("input, textarea, select, [contenteditable]");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.key === "?") setDialog("shortcuts");
      else if (event.key === "t") theme.next();
      else if (event.key === "g") leader = Date.now();
      else if (Date.now() - leader < 1_500) {
        const screen = Object.keys(SCREENS).find((name) => name[0] === event.key);
        if (screen) go(hrefOf(screen));
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [theme.theme]);

  const Screen = SCREENS[route.screen];
  const themeIcon = { system: "system", light: "sun", dark: "moon" }[theme.theme];
  return html`
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => { event.preventDefault(); main.current?.focus(); }}>${T.skip}</a>
    <div class="shell">
      <header class="side">
        <a class="brand" href="#/summarize"><img src="/console/icon.svg" alt="" width="22" height="22" />${T.name}</a>
        <nav aria-label=${T.palette.title}>
          ${Object.keys(SCREENS).map(
            (name) => html`<a href=${hrefOf(name)} aria-current=${route.screen === name ? "page" : undefined}>
              <${Icon} name=${name} />${T.screens[/** @type {keyof typeof T.screens} */ (name)]}
            </a>`,
          )}
        </nav>
        <div class="tools">
          <${Workers} state=${models} />
          <${Button} kind="quiet" icon="search" title=${`${T.palette.title} (Ctrl-K)`} aria-label=${T.palette.title} onClick=${() => setDialog("palette")} />
          <${Button} kind="quiet" icon="key" class=${apiKey() ? "on" : ""} title=${apiKey() ? T.key.set : T.key.none} aria-label=${T.key.title} onClick=${() => setDialog("key")} />
          <${Button} kind="quiet" icon=${themeIcon} title=${`${T.theme.title}: ${T.theme[theme.theme]}`} aria-label=${`${T.theme.title}: ${T.theme[theme.theme]}`} onClick=${theme.next} />
        </div>
      </header>
      <main id="main" tabindex="-1" ref=${main}>
        <${Rights} />
        ${Screen
          ? html`<${Boundary} key=${`${route.screen}/${round}`}><${Screen} route=${route} models=${models} /><//>`
          : html`<section class="notice"><h1>${T.notFound.title}</h1><p>${T.notFound.hint}</p></section>`}
      </main>
    </div>
    ${dialog.startsWith("key") &&
    html`<${KeyDialog} wanted=${dialog === "key-wanted"} onClose=${close} onSaved=${() => { close(); setRound(round + 1); }} />`}
    ${dialog === "palette" && html`<${Palette} screens=${Object.keys(SCREENS)} theme=${theme} onKey=${() => setDialog("key")} onHelp=${() => setDialog("shortcuts")} onClose=${close} />`}
    ${dialog === "shortcuts" && html`<${Shortcuts} screens=${Object.keys(SCREENS)} onClose=${close} />`}
  `;
}

const root = document.getElementById("app");
if (root) {
  root.textContent = "";
  render(html`<${App} />`, root);
}
