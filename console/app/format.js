// Numbers, durations and times for people.
const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function count(/** @type {number | null | undefined} */ value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function shortCount(/** @type {number | null | undefined} */ value) {
  return value === null || value === undefined ? "–" : compact.format(value);
}

/** A duration in milliseconds, such as `340 ms`, `2.4 s` or `3 min 5 s`. */
export function duration(/** @type {number | null | undefined} */ ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 1) return ms > 0 ? `${ms.toFixed(2)} ms` : "0 ms";
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  // The limits are those of the rounded values, so that nothing is shown as 60 s or 60 min.
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  const minutes = Math.floor(rounded / 60);
  if (minutes < 60) return `${minutes} min ${rounded % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function fixed(/** @type {number | null | undefined} */ value, digits = 3) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

export function percent(/** @type {number | null | undefined} */ value, digits = 0) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : `${(value * 100).toFixed(digits)} %`;
}

const sameDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const otherDay = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** Reads a time of the gateway (RFC 3339) or of ClickHouse (UTC without a zone). */
export function parseTime(/** @type {string | null | undefined} */ text) {
  if (!text) return null;
  const time = new Date(/[zZ+]|-\d\d:\d\d$/.test(text.slice(10)) ? text : `${text.replace(" ", "T")}Z`);
  return Number.isNaN(time.getTime()) ? null : time;
}

/** A time of day, with the date unless it is today's. */
export function time(/** @type {string | Date | null | undefined} */ value) {
  const at = value instanceof Date ? value : parseTime(value);
  if (!at) return "–";
  return (at.toDateString() === new Date().toDateString() ? sameDay : otherDay).format(at);
}

/** How long ago, such as `5 min ago`. */
export function ago(/** @type {string | Date | null | undefined} */ value) {
  const at = value instanceof Date ? value : parseTime(value);
  if (!at) return "–";
  const seconds = Math.max(0, Math.floor((Date.now() - at.getTime()) / 1_000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export function bytes(/** @type {number} */ value) {
  if (value < 1_024) return `${value} B`;
  if (value < 1_048_525) return `${(value / 1_024).toFixed(1)} KB`;
  return `${(value / 1_048_576).toFixed(1)} MB`;
}

const dayMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** A date, such as `30 Oct 2026`. */
export function date(/** @type {string | null | undefined} */ value) {
  const at = parseTime(value);
  return at ? dayMonth.format(at) : "–";
}
