// Charts: lines with bands (uPlot), and bars and histograms as SVG.
import { html, uPlot, useEffect, useLayoutEffect, useRef, useState } from "../lib.js";

/** Names of the colours of series, in order. */
export const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];

/** The colour behind a custom property, as the current theme has it. */
function resolve(/** @type {HTMLElement} */ element, /** @type {string} */ name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** A number that changes with the theme. */
function useThemeRound() {
  const [round, setRound] = useState(0);
  useEffect(() => {
    const changed = () => setRound((before) => before + 1);
    const watcher = new MutationObserver(changed);
    watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", changed);
    return () => {
      watcher.disconnect();
      dark.removeEventListener("change", changed);
    };
  }, []);
  return round;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const BOTH = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** Labels of a time axis: the clock, or the day at midnight and on long axes. */
function timeTicks(/** @type {any} */ _chart, /** @type {number[]} */ at, /** @type {any} */ _axis, /** @type {any} */ _space, /** @type {number} */ step) {
  return at.map((seconds) => {
    const date = new Date(seconds * 1_000);
    return step >= 86_400 || (date.getHours() === 0 && date.getMinutes() === 0) ? DAY.format(date) : CLOCK.format(date);
  });
}

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {(number | null)[]} values
 * @property {string} [colour] Name of a custom property.
 * @property {boolean} [dashed]
 * @property {boolean} [hidden] An edge of a band: it has no line of its own.
 */

/**
 * Lines over time.
 * @param {object} props
 * @param {number[]} props.times Seconds since 1970.
 * @param {Series[]} props.series
 * @param {{upper: number, lower: number, colour: string, opacity: number}[]} [props.bands] Pairs of series to fill.
 * @param {(value: number) => string} props.format
 * @param {string} props.label
 * @param {[number, number]} props.range Seconds since 1970.
 */
export function Lines({ times, series, bands = [], format, label, range }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const round = useThemeRound();
  const key = JSON.stringify([times, series, bands, range]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element || !times.length) return;
    const ink = resolve(element, "--ink-3");
    const line = resolve(element, "--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    const options = {
      width: element.clientWidth,
      height: 210,
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { min: range[0], max: range[1] }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.08 || 1] } },
      axes: [
        { ...axis, space: 64, values: timeTicks },
        { ...axis, size: 52, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(format) },
      ],
      series: [
        { value: (/** @type {any} */ _, /** @type {number | null} */ at) => (at ? BOTH.format(new Date(at * 1_000)) : "–") },
        ...series.map((one, index) => ({
          label: one.label,
          class: one.hidden ? "edge" : undefined,
          stroke: one.hidden ? "transparent" : resolve(element, one.colour ?? COLOURS[index % COLOURS.length]),
          width: one.hidden ? 0 : 1.8,
          dash: one.dashed ? [5, 4] : undefined,
          points: { show: !one.hidden && times.length < 40, size: 4 },
          spanGaps: false,
          value: (/** @type {any} */ _, /** @type {number | null} */ value) => (value === null || value === undefined ? "–" : format(value)),
        })),
      ],
      bands: bands.map((band) => ({
        series: [band.upper + 1, band.lower + 1],
        fill: resolve(element, band.colour).replace("rgb(", "rgba(").replace(")", `, ${band.opacity})`),
      })),
    };
    const chart = new uPlot(options, [times, ...series.map((one) => one.values)], element);
    const watcher = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: 210 }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      chart.destroy();
    };
  }, [key, round]);
  return html`<div class="lines" ref=${box} role="img" aria-label=${label}></div>`;
}

/** The width of an element, kept up to date. */
function useWidth(/** @type {{current: HTMLElement | null}} */ box, /** @type {number} */ first) {
  const [width, setWidth] = useState(first);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const watcher = new ResizeObserver(() => element.clientWidth && setWidth(element.clientWidth));
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);
  return width;
}

/** Round numbers for an axis from 0 to at least `top`. */
export function ticks(/** @type {number} */ top, wanted = 4) {
  const raw = Math.max(top, 1e-9) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= raw) ?? raw;
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, index) => index * step);
}

/**
 * Stacked bars.
 * @param {object} props
 * @param {{label: string, values: Record<string, number>}[]} props.bars
 * @param {string[]} props.names Names of the parts, in order.
 * @param {(value: number) => string} props.format
 * @param {string} props.label
 */
export function Bars({ bars, names, format, label }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const W = useWidth(box, 600);
  const [H, LEFT, BOTTOM] = [210, 44, 22];
  const totals = bars.map(({ values }) => names.reduce((sum, name) => sum + (values[name] ?? 0), 0));
  const axis = ticks(Math.max(...totals, 1));
  const top = axis.at(-1) ?? 1;
  const y = (/** @type {number} */ value) => 6 + (H - BOTTOM - 6) * (1 - value / top);
  const slot = (W - LEFT - 4) / Math.max(bars.length, 1);
  const width = Math.min(Math.max(slot * 0.78, 1), 46);
  const every = Math.ceil(bars.length / Math.max(2, Math.floor(W / 100)));
  return html`<div class="bars" ref=${box}>
    <svg height=${H} viewBox=${`0 0 ${W} ${H}`} role="img" aria-label=${label}>
      ${axis.map((value) => html`<g key=${value}><line x1=${LEFT} x2=${W} y1=${y(value)} y2=${y(value)} class="grid" /><text x=${LEFT - 6} y=${y(value) + 3.5} text-anchor="end">${format(value)}</text></g>`)}
      ${bars.map(({ label: text, values }, index) => {
        let sum = 0;
        const x = LEFT + slot * (index + 0.5) - width / 2;
        const parts = names.filter((name) => values[name]);
        return html`<g key=${text}>
          <title>${`${text}: ${format(totals[index])}${names.length > 1 ? ` (${parts.map((name) => `${name} ${format(values[name])}`).join(", ")})` : ""}`}</title>
          <rect x=${LEFT + slot * index} y="0" width=${slot} height=${H - BOTTOM} class="hit" />
          ${parts.map((name) => {
            const value = values[name];
            sum += value;
            return html`<rect key=${name} x=${x} y=${y(sum)} width=${width} height=${Math.max(y(sum - value) - y(sum), 0.5)} style=${{ fill: `var(${COLOURS[names.indexOf(name) % COLOURS.length]})` }} />`;
          })}
          ${index % every === 0 && html`<text x=${x + width / 2} y=${H - 6} text-anchor="middle">${text}</text>`}
        </g>`;
      })}
    </svg>
    ${names.length > 1 && html`<ul class="legend">${names.map((name, index) => html`<li key=${name}><i style=${{ background: `var(${COLOURS[index % COLOURS.length]})` }}></i>${name}</li>`)}</ul>`}
  </div>`;
}
