// The samples that come with the product.
import { send } from "./api.js";

/** @typedef {{id: string, title: string, article: string, summary?: string, reference?: string}} Sample */

/** @type {Promise<Sample[]> | undefined} */
let loading;

/** All sample articles. */
export function samples() {
  loading ??= send({ method: "GET", path: "/console/samples/articles.jsonl" })
    .then((response) => response.text())
    .then((text) => text.split("\n").filter(Boolean).map((line) => JSON.parse(line)));
  loading.catch(() => {
    loading = undefined;
  });
  return loading;
}
