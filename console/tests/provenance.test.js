// The comparison of a summary with its text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { common, difference, pieces, provenance } from "../app/provenance.js";
import { readRows } from "../app/rows.js";

const TEXT = "ORSLEY — Trams will be free. The council cut 1,200 jobs and $12 million, Mayor Ann Lee said on Monday.";

const shown = (text, marks) => marks.map(({ start, end }) => text.slice(start, end));

test("runs of three words and more are copied, and point to their source", () => {
  const summary = "The council cut 1,200 jobs quickly.";
  const found = provenance(summary, TEXT);
  assert.deepEqual(shown(summary, found.marks.filter(({ kind }) => kind === "copied")), ["The council cut 1,200 jobs"]);
  assert.deepEqual(shown(TEXT, found.sentences[0].sources), ["The council cut 1,200 jobs"]);
  assert.equal(TEXT.slice(found.sentences[0].passage.start, found.sentences[0].passage.end).startsWith("The council"), true);
  assert.equal(found.copied, 5 / 6);
});

test("numbers and names that the text lacks are unsupported", () => {
  const names = (summary) => provenance(summary, TEXT).unsupported.map(({ text }) => text);
  assert.deepEqual(names("Officials cut 1,300 jobs, Mayor Bob Lee said."), ["1,300", "Bob"]);
  assert.deepEqual(names("The council cut 1200 jobs."), [], "a number without its separator is the same");
  assert.deepEqual(names("The council cut 1,2"), ["1,2"], "a number that was cut off is another one");
  assert.deepEqual(names("Free trams."), [], "a capital at the start of a sentence is no name");
  assert.deepEqual(names(""), []);
});

test("two summaries are compared by their words", () => {
  const [left, right] = difference("The cat sat down.", "The dog sat.");
  assert.deepEqual([shown("The cat sat down.", left), shown("The dog sat.", right)], [["cat", "down"], ["dog"]]);
  assert.deepEqual(shown("A Dog barked", common("A Dog barked", "the dog")), ["Dog"]);
});

test("overlapping marks cut a text into pieces that add up to it", () => {
  const marks = [{ start: 0, end: 5, kind: "a" }, { start: 3, end: 9, kind: "b" }, { start: 7, end: 99, kind: "a" }];
  const cut = pieces("0123456789", marks);
  assert.equal(cut.map(({ text }) => text).join(""), "0123456789");
  assert.deepEqual(cut.map(({ kinds }) => kinds.join("+")), ["a", "a+b", "b", "b+a", "a"]);
});

test("rows of CSV and JSON Lines are read with the lines on which they begin", () => {
  const csv = 'article,summ\n"Rain, ""heavy"",\nfell.",It rained.\n,empty\nonly one field\n"open';
  const { rows } = readRows("a.csv", csv, { complete: true });
  assert.deepEqual(rows[0], { line: 2, article: 'Rain, "heavy",\nfell.', reference: "It rained.", problem: undefined });
  assert.deepEqual(rows.map(({ line }) => line), [2, 4, 5, 6]);
  assert.ok(rows.slice(1).every(({ problem }) => problem));
  assert.match(readRows("a.csv", "title\nx", { complete: true }).problem, /title/);

  const lines = readRows("a.jsonl", '"Rain."\n\n{"article": "Snow.", "summ": "It snowed."}\n{"text": 1}\nnonsense\n', { complete: true });
  assert.deepEqual(lines.rows.map(({ line, article, problem }) => [line, article, !problem]), [[1, "Rain.", true], [3, "Snow.", true], [4, "", false], [5, "nonsense", false]]);
  assert.equal(readRows("a.jsonl", '"Rain."\n"cut of', { complete: false }).rows.length, 1);
});
