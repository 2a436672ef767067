// The stages of a job, one below the other on a common time axis.
import { duration } from "../format.js";
import { html } from "../lib.js";
import { T } from "../text.js";

/** @typedef {import("../../types/rest").Timings} Timings */

const STAGES = /** @type {const} */ (["queue_ms", "batch_wait_ms", "tokenize_ms", "encode_ms", "decode_ms"]);

/** The stages with their start, in milliseconds from the submission. */
export function stagesOf(/** @type {Partial<Timings>} */ timings) {
  let start = 0;
  /** @type {{name: keyof typeof T.stages, start: number, ms: number}[]} */
  const stages = STAGES.map((name) => {
    const ms = timings[name] ?? 0;
    start += ms;
    return { name, start: start - ms, ms };
  });
  // What is left of the total is the time to store the result.
  stages.push({ name: "publish_ms", start, ms: Math.max(0, (timings.total_ms ?? start) - start) });
  return stages;
}

export function Waterfall(/** @type {{timings: Partial<Timings>}} */ { timings }) {
  const stages = stagesOf(timings);
  const total = Math.max(timings.total_ms ?? 0, stages.at(-1)?.start ?? 0, 0.001);
  return html`<table class="waterfall">
    <caption>${T.summarize.timeline} <span>${duration(timings.total_ms)} ${T.summarize.total}</span></caption>
    <tbody>
      ${stages.map(
        ({ name, start, ms }) => html`<tr key=${name}>
          <th scope="row">${T.stages[name]}</th>
          <td class="bar"><i class=${name} style=${{ marginLeft: `${(start / total) * 100}%`, width: `${(ms / total) * 100}%` }}></i></td>
          <td class="number">${duration(ms)}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}
