// Icons, drawn on a grid of 16.
import { html } from "../lib.js";

const PATHS = {
  summarize: "M3 4h10M3 8h10M3 12h5",
  batches: "M8 2 2.5 5 8 8l5.5-3zM2.5 8 8 11l5.5-3M2.5 11 8 14l5.5-3",
  jobs: "M2.5 3.5h2m2.5 0h6.5M2.5 8h2M7 8h6.5m-11 4.5h2m2.5 0h6.5",
  analytics: "M2.5 13.5h11M4.5 11V7.5M8 11V3.5M11.5 11V6",
  operations: "M2 8h2.5l2-5 3 10 2-5H14",
  key: "M10.5 2.5a3 3 0 1 1-2.8 4.1L3 11.3V13h2v-1.5h1.5V10l1.9-1.6M11 5v.01",
  sun: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM8 1.5v1.2m0 10.6v1.2M1.5 8h1.2m10.6 0h1.2M3.4 3.4l.9.9m7.4 7.4.9.9m0-9.2-.9.9m-7.4 7.4-.9.9",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z",
  system: "M2.5 3h11v7.5h-11zM6 13.5h4M8 10.5v3",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zm3.3 7.8 3.2 3.2",
  copy: "M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1",
  check: "m3 8.5 3.2 3.2L13 5",
  close: "m3.5 3.5 9 9m0-9-9 9",
  play: "M5 3.5v9l7.5-4.5z",
  stop: "M4 4h8v8H4z",
  file: "M4 1.8h5.5L12.5 5v9.2H4zM9.2 2v3.3h3.1",
  download: "M8 2.5v7.6m-3.2-3L8 10.3l3.2-3.2M2.8 13.5h10.4",
  edit: "m10.8 2.8 2.4 2.4-7.6 7.6-3 .6.6-3z",
  chevron: "m4 6 4 4 4-4",
  terminal: "m3 4.5 3.5 3.5L3 11.5M8.5 12H13",
  compare: "M3 3.5h4v9H3zM9 3.5h4v9H9z",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  alert: "M8 2 14.2 13H1.8zM8 6.3v3.4m0 1.7v.01",
  menu: "M2.5 4.5h11m-11 3.5h11m-11 3.5h11",
  link: "M6.5 9.5 9.5 6.5M7.3 4.8l1.5-1.5a2.8 2.8 0 0 1 4 4l-1.6 1.5M8.8 11.2l-1.6 1.5a2.8 2.8 0 0 1-4-4l1.6-1.5",
  refresh: "M13 8a5 5 0 1 1-1.5-3.6L13 5.8M13 2.5v3.3H9.7",
  table: "M2.5 3h11v10h-11zM2.5 6.3h11M2.5 9.6h11M6.5 6.3V13",
};

/** @param {{name: keyof typeof PATHS, size?: number}} props */
export function Icon({ name, size = 16 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true">
    <path d=${PATHS[name]} />
  </svg>`;
}
