// Where a summary comes from: copied passages, unsupported numbers and names, and words in common with a reference.

/**
 * @typedef {object} Word
 * @property {string} key Lower-case form, numbers without separators.
 * @property {string} text
 * @property {number} start
 * @property {number} end
 */

/**
 * A part of a text to mark.
 * @typedef {object} Mark
 * @property {number} start
 * @property {number} end
 * @property {string} kind
 * @property {string} [title]
 */

const WORD = /[\p{L}\p{N}]+(?:[.,'’][\p{L}\p{N}]+)*/gu;
/** Shortest run of words that counts as copied. */
export const COPIED_WORDS = 3;

/** @returns {Word[]} */
export function words(/** @type {string} */ text) {
  return Array.from(text.matchAll(WORD), (match) => {
    const found = match[0];
    // Separators of thousands only: a number that was cut off, as in “1,2”, must not turn into another one.
    const key = found.replaceAll(/(?<=\d),(?=\d{3}(?!\d))/g, "").replaceAll("’", "'").toLowerCase();
    return { key, text: found, start: match.index, end: match.index + found.length };
  });
}

/** Sentences with their positions. */
export function sentences(/** @type {string} */ text) {
  const segments = new Intl.Segmenter("en", { granularity: "sentence" }).segment(text);
  return Array.from(segments, ({ segment, index }) => ({ start: index, end: index + segment.trimEnd().length })).filter(
    ({ start, end }) => end > start,
  );
}

/**
 * The longest runs of words that a summary shares with its text, from left to right (Grusky et al. 2018).
 * @param {Word[]} summary
 * @param {Word[]} source
 */
export function fragments(summary, source) {
  /** @type {Map<string, number[]>} */
  const places = new Map();
  source.forEach((word, index) => {
    const known = places.get(word.key);
    if (known) known.push(index);
    else places.set(word.key, [index]);
  });
  /** @type {{at: number, from: number, length: number}[]} */
  const found = [];
  for (let at = 0; at < summary.length; ) {
    let best = { at, from: 0, length: 0 };
    for (const from of places.get(summary[at].key) ?? []) {
      let length = 1;
      while (
        at + length < summary.length &&
        from + length < source.length &&
        summary[at + length].key === source[from + length].key
      ) {
        length += 1;
      }
      if (length > best.length) best = { at, from, length };
    }
    if (best.length > 0) found.push(best);
    at += Math.max(best.length, 1);
  }
  return found;
}

/**
 * Numbers and names of the summary that do not occur in the text.
 * @param {string} summaryText
 * @param {Word[]} summary
 * @param {Word[]} source
 */
export function unsupported(summaryText, summary, source) {
  const known = new Set(source.map((word) => word.key));
  const starts = new Set(sentences(summaryText).map(({ start }) => start));
  return summary.filter((word) => {
    if (known.has(word.key) || known.has(word.key.replace(/'s$/, ""))) return false;
    if (/\p{N}/u.test(word.text)) return true;
    const isName = /^\p{Lu}/u.test(word.text) && word.text.length > 1;
    // A sentence's first word is capitalized whatever it is.
    return isName && !starts.has(word.start) && !starts.has(word.start - 1);
  });
}

/**
 * @typedef {object} Provenance
 * @property {{start: number, end: number, sources: {start: number, end: number}[], passage?: {start: number, end: number}}[]} sentences
 * @property {Mark[]} marks Marks of the summary.
 * @property {number} coverage Fraction of the summary's words that are in a shared run.
 * @property {number} density Mean length of the run that a word belongs to.
 * @property {number} copied Fraction of the words in copied runs.
 * @property {Word[]} unsupported
 * @property {number} compression
 */

/**
 * Compares a summary with its text.
 * @param {string} summaryText
 * @param {string} sourceText
 * @returns {Provenance}
 */
export function provenance(summaryText, sourceText) {
  const summary = words(summaryText);
  const source = words(sourceText);
  const shared = fragments(summary, source);
  const copied = shared.filter((run) => run.length >= COPIED_WORDS);
  const doubtful = unsupported(summaryText, summary, source);
  const passages = sentences(sourceText);
  const spanIn = (/** @type {Word[]} */ list, /** @type {number} */ first, /** @type {number} */ length) => ({
    start: list[first].start,
    end: list[first + length - 1].end,
  });
  const linked = sentences(summaryText).map((sentence) => {
    const own = shared.filter((run) => summary[run.at].start >= sentence.start && summary[run.at].start < sentence.end);
    const long = own.filter((run) => run.length >= COPIED_WORDS);
    const sources = (long.length ? long : own.filter((run) => run.length > 1)).map((run) =>
      spanIn(source, run.from, run.length),
    );
    return { ...sentence, sources, passage: closest(summaryText.slice(sentence.start, sentence.end), source, passages) };
  });
  const total = summary.length || 1;
  return {
    sentences: linked,
    marks: [
      ...copied.map((run) => ({ ...spanIn(summary, run.at, run.length), kind: "copied" })),
      ...doubtful.map(({ start, end }) => ({ start, end, kind: "unsupported" })),
    ],
    coverage: shared.reduce((sum, run) => sum + run.length, 0) / total,
    density: shared.reduce((sum, run) => sum + run.length ** 2, 0) / total,
    copied: copied.reduce((sum, run) => sum + run.length, 0) / total,
    unsupported: doubtful,
    compression: summaryText.length ? sourceText.length / summaryText.length : 0,
  };
}

/**
 * The sentence of the source that shares most of a sentence's words, rare ones counting more.
 * @param {string} sentence
 * @param {Word[]} source
 * @param {{start: number, end: number}[]} passages
 */
function closest(sentence, source, passages) {
  /** @type {Map<string, number>} */
  const frequency = new Map();
  for (const word of source) frequency.set(word.key, (frequency.get(word.key) ?? 0) + 1);
  const wanted = new Set(words(sentence).map((word) => word.key));
  let best;
  let bestScore = 0;
  let next = 0;
  for (const passage of passages) {
    let score = 0;
    const seen = new Set();
    for (; next < source.length && source[next].start < passage.end; next += 1) {
      const { key } = source[next];
      if (wanted.has(key) && !seen.has(key)) {
        seen.add(key);
        score += 1 / (frequency.get(key) ?? 1);
      }
    }
    if (score > bestScore) [best, bestScore] = [passage, score];
  }
  return best;
}

/**
 * Words of `text` that also occur in `other`.
 * @param {string} text
 * @param {string} other
 * @returns {Mark[]}
 */
export function common(text, other) {
  const known = new Set(words(other).map((word) => word.key));
  return words(text)
    .filter((word) => known.has(word.key))
    .map(({ start, end }) => ({ start, end, kind: "common" }));
}

/**
 * Marks the words of each text that are not part of their longest common subsequence.
 * @param {string} left
 * @param {string} right
 * @returns {[Mark[], Mark[]]}
 */
export function difference(left, right) {
  const a = words(left);
  const b = words(right);
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i][j] = a[i].key === b[j].key ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  /** @type {[Mark[], Mark[]]} */
  const marks = [[], []];
  const add = (/** @type {0 | 1} */ side, /** @type {Word} */ { start, end }) =>
    marks[side].push({ start, end, kind: "differs" });
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i].key === b[j].key) [i, j] = [i + 1, j + 1];
    else if (table[i + 1][j] >= table[i][j + 1]) add(0, a[i++]);
    else add(1, b[j++]);
  }
  while (i < a.length) add(0, a[i++]);
  while (j < b.length) add(1, b[j++]);
  return marks;
}

/**
 * Cuts a text at the edges of its marks.
 * @param {string} text
 * @param {Mark[]} marks
 * @returns {{start: number, text: string, kinds: string[], title?: string}[]}
 */
export function pieces(text, marks) {
  const edges = new Set([0, text.length]);
  for (const { start, end } of marks) edges.add(Math.max(0, start)).add(Math.min(text.length, end));
  const sorted = [...edges].sort((a, b) => a - b);
  const byStart = [...marks].sort((a, b) => a.start - b.start);
  /** @type {Mark[]} */
  let open = [];
  let next = 0;
  const result = [];
  for (let index = 0; index + 1 < sorted.length; index += 1) {
    const [start, end] = [sorted[index], sorted[index + 1]];
    while (next < byStart.length && byStart[next].start <= start) open.push(byStart[next++]);
    open = open.filter((mark) => mark.end > start);
    const kinds = [...new Set(open.map((mark) => mark.kind))];
    result.push({ start, text: text.slice(start, end), kinds, title: open.find((mark) => mark.title)?.title });
  }
  return result;
}
