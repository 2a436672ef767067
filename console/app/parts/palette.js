// The command palette and the list of shortcuts.
import { html, useRef, useState } from "../lib.js";
import { go, hrefOf } from "../route.js";
import { T } from "../text.js";
import { Dialog } from "./ui.js";

/** @typedef {{label: string, hint?: string, run: () => void}} Command */

/** Commands that the current screen offers. @type {Map<string, Command>} */
const offered = new Map();

/** Offers a command while a screen is shown. Returns a function that withdraws it. */
export function offer(/** @type {Command} */ command) {
  offered.set(command.label, command);
  return () => {
    if (offered.get(command.label) === command) offered.delete(command.label);
  };
}

const JOB_ID = /^[0-9a-f]{32}(-\d+)?(\.\d+)?$/;

export function Palette(/** @type {any} */ { screens, theme, onKey, onHelp, onClose }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  /** @type {Command[]} */
  const all = [
    ...offered.values(),
    ...screens.map((/** @type {keyof typeof T.screens} */ name) => ({
      label: T.shortcuts.go(T.screens[name]),
      hint: `g ${name[0]}`,
      run: () => go(hrefOf(name)),
    })),
    { label: T.shortcuts.theme, hint: "t", run: theme.next },
    { label: T.key.title, run: onKey },
    { label: T.shortcuts.title, hint: "?", run: onHelp },
  ];
  const wanted = text.trim().toLowerCase();
  const found = all.filter((command) => wanted.split(/\s+/).every((word) => command.label.toLowerCase().includes(word)));
  if (JOB_ID.test(wanted)) {
    const href = screens.includes("jobs") ? hrefOf("jobs", wanted) : hrefOf("summarize", "", { job: wanted });
    found.unshift({ label: `${T.summarize.openJob} ${wanted}`, run: () => go(href) });
  }
  const chosen = Math.min(at, found.length - 1);
  const run = (/** @type {Command | undefined} */ command) => {
    if (!command) return;
    onClose();
    command.run();
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      event.preventDefault();
      const next = (chosen + step + found.length) % found.length;
      setAt(next);
      list.current?.children[next]?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(found[chosen]);
    }
  };
  return html`<${Dialog} title=${T.palette.title} class="palette" onClose=${onClose}>
    <input type="text" role="combobox" aria-expanded="true" aria-controls="commands" aria-activedescendant=${`command-${chosen}`}
      aria-label=${T.palette.title} placeholder=${T.palette.placeholder} autofocus value=${text} onKeyDown=${keys}
      onInput=${(/** @type {any} */ event) => { setText(event.target.value); setAt(0); }} />
    <div role="listbox" id="commands" aria-label=${T.palette.title} ref=${list}>
      ${found.map(
        (command, index) => html`<div role="option" id=${`command-${index}`} aria-selected=${index === chosen}
          onClick=${() => run(command)} onPointerMove=${() => setAt(index)}>
          <span>${command.label}</span>${command.hint && html`<kbd>${command.hint}</kbd>`}
        </div>`,
      )}
    </div>
    ${!found.length && html`<p class="hint">${T.palette.none}</p>`}
  <//>`;
}

export function Shortcuts(/** @type {any} */ { screens, onClose }) {
  const rows = [
    ["Ctrl-Enter", T.shortcuts.run],
    ["Ctrl-K", T.shortcuts.palette],
    ["?", T.shortcuts.help],
    ["t", T.shortcuts.theme],
    ...screens.map((/** @type {keyof typeof T.screens} */ name) => [`g ${name[0]}`, T.shortcuts.go(T.screens[name])]),
    ["Esc", T.shortcuts.close],
  ];
  return html`<${Dialog} title=${T.shortcuts.title} onClose=${onClose}>
    <dl class="shortcuts">
      ${rows.map(([keys, meaning]) => html`<div><dt><kbd>${keys}</kbd></dt><dd>${meaning}</dd></div>`)}
    </dl>
  <//>`;
}
