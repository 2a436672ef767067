// The page's state in its address: `#/screen/id?name=value`.
import { useEffect, useState } from "./lib.js";

/**
 * @typedef {object} Route
 * @property {string} screen
 * @property {string} id
 * @property {URLSearchParams} query
 */

/** @returns {Route} */
export function currentRoute() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [screen = "", ...rest] = path.split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // A broken escape is shown as it is.
  }
  return { screen: screen || "summarize", id, query: new URLSearchParams(query) };
}

/**
 * The address of a view. Empty values are left out.
 * @param {string} screen
 * @param {string} [id]
 * @param {Record<string, string | number | boolean | null | undefined> | URLSearchParams} [query]
 */
export function hrefOf(screen, id = "", query = {}) {
  const parameters = new URLSearchParams();
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  for (const [name, value] of entries) {
    if (value !== undefined && value !== null && value !== "" && value !== false) parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `#/${screen}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

/**
 * Shows a view.
 * @param {string} href
 * @param {{replace?: boolean}} [options]
 */
export function go(href, { replace = false } = {}) {
  if (location.hash === href) return;
  if (replace) {
    history.replaceState(null, "", href);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = href;
  }
}

/**
 * Changes parameters of the current view. Empty values are removed.
 * @param {Record<string, string | number | boolean | null | undefined>} changes
 * @param {{replace?: boolean}} [options]
 */
export function setQuery(changes, options = { replace: true }) {
  const { screen, id, query } = currentRoute();
  go(hrefOf(screen, id, { ...Object.fromEntries(query), ...changes }), options);
}

/** The current route; the component is drawn again when it changes. */
export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const changed = () => setRoute(currentRoute());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
