// What the API key of this tab may do. The gateway enforces it; the page shows it.
import { apiKey, onKeyChanged, sendJson } from "./api.js";
import { useEffect, useState } from "./lib.js";
import { T } from "./text.js";

/** @typedef {import("../types/rest").AccessView} AccessView */

export const ACCESS = { method: "GET", path: "/v1/access" };

/** What is known, or null while nothing is: then nothing is disabled. */
let known = /** @type {AccessView | null} */ (null);
/** @type {Set<() => void>} */
const watchers = new Set();

async function load() {
  known = null;
  // Without a key, each call says what it needs.
  if (apiKey())
    try {
      known = await sendJson(ACCESS);
    } catch {
      // A gateway without this route enforces rights all the same.
    }
  watchers.forEach((tell) => tell());
}

onKeyChanged(load);
load();

/**
 * Why the key may not do something that needs this right, or an empty string if it may.
 * @param {string | undefined} right
 */
function reason(right) {
  if (!right || !known) return "";
  if (right === "all_tenants") return known.all_tenants ? "" : T.access.needsOperator;
  return known.rights.some((held) => held === right || held === "admin") ? "" : T.access.lacks(right);
}

/** What the key may do. The component is drawn again when that changes. */
export function useAccess() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const tell = () => redraw((round) => round + 1);
    watchers.add(tell);
    return () => {
      watchers.delete(tell);
    };
  }, []);
  return { access: known, reason, may: (/** @type {string} */ right) => !reason(right) };
}
