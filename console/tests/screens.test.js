// Every screen in Chromium on a real product.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { openPage, startBrowser, startProduct } from "./product.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SLOW = "#/summarize?num_beams=64&min_new_tokens=500&max_new_tokens=500&first_sentence=false";
const SCREENS = ["summarize", "summarize?compare=1", "batches", "jobs?range=7d", "analytics?range=7d", "operations"];

let product;
let browser;

before(async () => {
  product = await startProduct({ settings: ["monitor.unserved_grace_seconds=1"] });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await product?.stop();
});

async function open(hash, options) {
  const opened = await openPage(browser, `${product.api}/${hash}`, options);
  opened.page.setDefaultTimeout(60_000);
  return opened;
}

async function loadSample(page, title) {
  await page.getByRole("button", { name: "Load sample" }).click();
  await page.getByRole("menuitem", { name: title }).click();
  await page.waitForFunction(() => document.querySelector("textarea.text")?.value.length > 100);
}

const run = (page) => page.getByRole("button", { name: "Summarize", exact: true }).click();

test("a sample is summarized, traced to its source, scored and logged", async () => {
  const { page, context, problems } = await open("#/summarize");
  await loadSample(page, /storm/i);
  await run(page);
  await page.locator(".status.succeeded").waitFor();
  assert.ok(await page.locator(".waterfall tr").count() >= 6);
  await page.locator(".sentence").first().hover();
  await page.locator(".reading mark.source").first().waitFor();
  await page.getByRole("button", { name: "Score", exact: true }).click();
  await page.locator(".scores .number").first().waitFor();
  await page.getByRole("button", { name: "Reference", exact: true }).click();
  assert.ok(await page.locator(".summary mark.common").count() > 0);
  assert.ok(await page.locator(".reading.small mark.common").count() > 0);
  await page.getByRole("button", { name: "Log reference", exact: true }).click();
  await page.getByRole("button", { name: "Logged" }).waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("two settings run side by side and their differences are marked", async () => {
  const { page, context, problems } = await open("#/summarize?compare=1&max_new_tokens=10");
  await loadSample(page, /Kestrel/i);
  await run(page);
  await page.waitForFunction(() => document.querySelectorAll(".status.succeeded").length === 2);
  assert.ok(await page.locator(".summary mark.differs").count() > 0);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a running job shows its text, survives a reload and can be cancelled", async () => {
  const { page, context, problems } = await open(SLOW);
  await loadSample(page, /bridge/i);
  await run(page);
  await page.locator(".summary.writing").waitFor();
  await page.reload();
  await page.locator(".summary.writing").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.locator(".status.cancelled").waitFor();
  assert.ok((await page.locator(".reading").textContent()).includes("Tarn"));
  assert.deepEqual(problems, []);
  await context.close();
});

test("the back button returns to the job before", async () => {
  const { page, context } = await open("#/summarize");
  await loadSample(page, /storm/i);
  await run(page);
  await page.locator(".status.succeeded").waitFor();
  const first = await page.locator(".summary").textContent();
  await loadSample(page, /Kestrel/i);
  await run(page);
  await page.waitForFunction((text) => document.querySelector(".status.succeeded") && document.querySelector(".summary").textContent !== text, first);
  await page.goBack();
  await page.goBack();
  await page.waitForFunction((text) => document.querySelector(".summary")?.textContent === text, first);
  assert.match(await page.locator(".reading").textContent(), /Ingrid|storm/i);
  await context.close();
});

test("markup in texts, names and addresses stays text", async () => {
  const markup = `<img src=x onerror="window.broken=1"><script>window.broken=1</script> Rain fell over the hills all night.`;
  const { page, context, problems } = await open(`#/batches?q=${encodeURIComponent(markup)}`);
  await page.setInputFiles("input[type=file]", { name: `${markup.slice(0, 30)}.jsonl`, mimeType: "text/plain", buffer: Buffer.from(`${JSON.stringify(markup)}\n${JSON.stringify({ article: markup, metadata: { a: markup } })}\n`) });
  await page.locator(".preview tbody tr").first().waitFor();
  await page.getByRole("button", { name: "Upload", exact: true }).click();
  await page.locator(".status.finished").waitFor();
  await page.locator(".expand").first().click();
  await page.goto(`${product.api}/#/summarize?job=${encodeURIComponent(markup)}&model=${encodeURIComponent(markup)}`);
  await page.waitForTimeout(500);
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await page.locator("img[src=x]").count(), 0);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a batch is previewed, run, searched, scored and downloaded", async () => {
  const { page, context, problems } = await open("#/batches");
  await page.setInputFiles("input[type=file]", { name: "bad.csv", mimeType: "text/csv", buffer: Buffer.from("article,summ\nRain fell over the hills.,It rained.\n,nothing\n") });
  await page.getByRole("button", { name: "1 bad row" }).waitFor();
  await page.getByRole("button", { name: "Load sample pairs" }).click();
  await page.getByText("16 with references").waitFor();
  await page.getByRole("button", { name: "Upload", exact: true }).click();
  await page.locator(".status.finished").waitFor();
  await page.getByRole("button", { name: "Compute scores" }).click();
  await page.locator(".figures").waitFor();
  await page.getByRole("searchbox").fill("Kestrel");
  await page.waitForFunction(() => document.querySelectorAll(".results-list tbody tr").length === 1);
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV", exact: true }).click()]);
  assert.match(readFileSync(await saved.path(), "utf8"), /^index,line,id,status,summary/);
  await page.goto(`${product.api}/#/batches`);
  await page.getByRole("link", { name: "pairs.csv" }).first().waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("the rest of a batch is cancelled after a confirmation that names the count", async () => {
  const { page, context } = await open("#/batches?num_beams=64&min_new_tokens=400&max_new_tokens=400&first_sentence=false");
  const rows = Array.from({ length: 40 }, (_, row) => JSON.stringify(`Rain fell over the hills in week ${row}.`)).join("\n");
  await page.setInputFiles("input[type=file]", { name: "slow.jsonl", mimeType: "text/plain", buffer: Buffer.from(rows) });
  await page.getByRole("button", { name: "Upload", exact: true }).click();
  await page.getByRole("button", { name: "Cancel the rest" }).click();
  await page.getByRole("button", { name: /^Cancel \d+ rows$/ }).click();
  await page.locator(".status.finished").waitFor();
  assert.ok(await page.locator(".chip.cancelled").count() === 1);
  await context.close();
});

test("analytics show every chart, as a table too", async () => {
  await fetch(`${product.monitor}/db/init`, { method: "POST" });
  const { page, context, problems } = await open("#/analytics?range=7d");
  await page.locator(".bars rect").first().waitFor();
  await page.locator(".lines canvas").first().waitFor();
  await page.getByRole("button", { name: /^Show as table: Predictions/ }).click();
  await page.getByRole("cell", { name: "other" }).first().waitFor();
  await page.getByRole("button", { name: "SQL: Predictions by channel" }).click();
  await page.getByText("FROM figures").waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("a job is found by its text, read, and run again", async () => {
  const { page, context, problems } = await open("#/summarize");
  await loadSample(page, /museum|mask/i);
  await run(page);
  await page.locator(".status.succeeded").waitFor();
  await page.goto(`${product.api}/#/jobs?q=aldwater%20museum`);
  await page.locator("a.open").first().waitFor();
  await page.locator("a.open").first().click();
  await page.getByText("Result published").waitFor();
  assert.ok(await page.locator(".long-text mark.copied").count() > 0);
  const before = page.url();
  await page.getByRole("button", { name: "Resubmit", exact: true }).click();
  await page.waitForURL((url) => String(url) !== before);
  await page.locator(".status.succeeded").waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("all jobs of a filter are exported and resubmitted after a confirmation", async () => {
  const { page, context } = await open("#/jobs?q=aldwater%20museum&task=summarize&tenant=public");
  await page.locator("a.open").first().waitFor();
  const shown = await page.locator("a.open").count();
  await page.getByRole("button", { name: "Export all" }).click();
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: `Export ${shown} jobs` }).click()]);
  assert.equal(readFileSync(await saved.path(), "utf8").match(/^"\d+~/gm).length, shown);
  await page.getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("button", { name: "Resubmit all" }).click();
  await page.getByRole("button", { name: `Resubmit ${shown} jobs` }).click();
  await page.getByText(`${shown} jobs resubmitted`).waitFor();
  await context.close();
});

test("a dead letter is searched, read, replayed and deleted", async () => {
  const { page, context, problems } = await open("#/operations");
  await page.getByRole("cell", { name: "precis-mini" }).waitFor();
  // No worker serves the model, so the job soon dies.
  await page.getByRole("searchbox").fill("bilbyday");
  await page.getByText("No dead letter matches the filter.").waitFor();
  product.publish("The Bilbyday opened. Rain fell over the hills all night.", "absent");
  await page.waitForTimeout(3_000);
  await page.getByRole("button", { name: "Refresh" }).click();
  await page.locator(".dead .expand").first().click();
  await page.getByRole("dialog").getByText("bilbyday").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Replay" }).click();
  await page.getByText("Replayed as").waitFor();
  await page.waitForTimeout(3_000);
  await page.getByRole("button", { name: "Refresh" }).click();
  await page.locator(".dead .expand").first().waitFor();
  await page.getByRole("button", { name: "Delete all" }).click();
  await page.getByRole("button", { name: "Delete 1 dead letter" }).click();
  await page.getByText("1 dead letter deleted").waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("the palette and the shortcuts work by keyboard", async () => {
  const { page, context } = await open("#/summarize");
  await page.locator("textarea.text").waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("analytics");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Analytics" }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("b");
  await page.getByRole("heading", { name: "Batches" }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("t");
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await context.close();
});

for (const theme of ["light", "dark"]) {
  test(`no screen has an accessibility violation in the ${theme} theme`, async () => {
    for (const screen of SCREENS) {
      const { page, context } = await open(`#/${screen}`, { colorScheme: theme, bypassCSP: true });
      await page.locator("main h1").first().waitFor({ state: "attached" });
      await page.waitForTimeout(1_500);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => [screen, id, nodes.map(({ html }) => html)]), []);
      await context.close();
    }
  });
}

test("no screen scrolls sideways at 360 px", async () => {
  for (const screen of SCREENS) {
    const { page, context } = await open(`#/${screen}`, { viewport: { width: 360, height: 760 } });
    await page.locator("main h1").first().waitFor({ state: "attached" });
    await page.waitForTimeout(1_000);
    const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= width, `${screen} is ${wide} px wide`);
    await context.close();
  }
});
