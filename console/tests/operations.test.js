// Operations and bulk actions on a real product.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { openPage, startBrowser, startProduct } from "./product.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SECRET = "test-key-of-arize";

let product;
let browser;

before(async () => {
  // Nothing listens at the address of Arize.
  product = await startProduct({ settings: [`arize.api_key=${SECRET}`, "arize.space_id=test-space", "arize.otlp_endpoint=http://127.0.0.1:1/v1/traces", "arize.log_endpoint=http://127.0.0.1:1/v1/log", "arize.sampling_rate=1"] });
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

const answer = async (path) => (await fetch(product.api + path)).json();

async function violations(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
}

test("the health names a target that fails and why, and what is not used", async () => {
  await fetch(`${product.api}/v1/summaries`, { method: "POST", headers: { "content-type": "application/json", prefer: "wait=60" }, body: JSON.stringify({ text: "Rain fell over the hills all night. The river rose." }) });
  const { page, context, problems } = await open("#/operations");
  const part = (name) => page.locator(".health").filter({ hasText: name });
  for (const name of ["Gateway", "NATS", "ClickHouse", "Monitor"]) await part(name).filter({ hasText: "ready" }).waitFor();
  await part("Phoenix").filter({ hasText: "not used" }).waitFor();
  await part("Webhooks").filter({ hasText: "none waiting" }).waitFor();
  await part("Arize").filter({ hasText: "down" }).waitFor();
  await page.locator(".failing").filter({ hasText: "Arize" }).waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

test("the configuration is shown without its secrets", async () => {
  const { page, context } = await open("#/operations");
  await page.getByText("Configuration as used").click();
  await page.locator("pre.tall").filter({ hasText: "[arize]" }).waitFor();
  assert.ok(!(await page.content()).includes(SECRET));
  assert.deepEqual(await violations(page), []);
  await context.close();
});

test("the sample history is loaded, fills the charts, and is removed in one step", async () => {
  const before = (await answer("/v1/predictions/count?from=now-365d")).count;
  const { page, context, problems } = await open("#/operations", { bypassCSP: true });
  await page.getByRole("button", { name: "Database initialization" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("They count in every chart").waitFor();
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Load about 2,000 predictions" }).click();
  await dialog.getByText(/[\d,]+ invented predictions stored/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  const stored = await answer("/v1/sample-history");
  assert.ok(stored.predictions > 1_700 && stored.pairs === 16, JSON.stringify(stored));

  await page.goto(`${product.api}/#/analytics?range=30d`);
  await page.locator(".bars rect").first().waitFor();
  await page.getByRole("button", { name: /^Show as table: Predictions/ }).click();
  for (const channel of ["lambda", "sagemaker", "batch"]) await page.getByRole("cell", { name: channel }).first().waitFor();
  await page.goto(`${product.api}/#/jobs?range=30d&tenant=sample-history`);
  await page.locator(".job-list .tag").filter({ hasText: "sample" }).first().waitFor();

  await page.goto(`${product.api}/#/operations`);
  await page.getByRole("button", { name: "Remove sample history" }).click();
  assert.deepEqual(await violations(page), []);
  await page.getByRole("dialog").getByRole("button", { name: `Remove ${stored.predictions.toLocaleString("en")} predictions` }).click();
  await page.getByRole("dialog").getByText(/removed\.$/).waitFor();
  assert.deepEqual(await answer("/v1/sample-history"), { predictions: 0, pairs: 0 });
  assert.equal((await answer("/v1/predictions/count?from=now-365d")).count, before);
  const figures = await answer("/v1/analytics/channels?from=now-40d");
  assert.deepEqual(figures.data.map((row) => row.channel), before ? ["api"] : []);
  assert.deepEqual(problems, []);
  await context.close();
});

test("waiting jobs are searched and cancelled by filter, after a confirmation that names the count", async () => {
  const rows = Array.from({ length: 60 }, (_, row) => JSON.stringify({ article: `${row % 2 ? "Rain" : "Snow"} fell over the hills in week ${row}.` })).join("\n");
  const params = encodeURIComponent(JSON.stringify({ num_beams: 64, min_new_tokens: 500, max_new_tokens: 500, first_sentence: false }));
  const upload = await fetch(`${product.api}/v1/batches?params=${params}`, { method: "POST", headers: { "content-type": "application/x-ndjson" }, body: rows });
  assert.equal(upload.status, 202);
  while ((await answer("/v1/jobs?limit=500")).jobs.length < 50) await new Promise((resolve) => setTimeout(resolve, 200));
  const { page, context, problems } = await open("#/jobs");
  await page.getByRole("button", { name: "Waiting", exact: true }).click();
  await page.locator(".waiting-list tbody tr").first().waitFor();
  await page.getByRole("searchbox").fill("snow fell");
  await page.waitForURL((url) => String(url).includes("q=snow"));
  await page.waitForFunction(() => [...document.querySelectorAll(".waiting-list tbody tr")].every((row) => row.textContent.includes("Snow")));
  await page.getByRole("button", { name: "Cancel all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Cancel \d+ jobs$/ }).click();
  await page.getByRole("dialog").getByText(/^[1-9]\d* jobs cancelled/).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
  await page.getByText("No waiting job matches the filter.").waitFor();
  const left = await answer("/v1/jobs?limit=500");
  assert.ok(left.jobs.length > 0 && left.jobs.every((job) => job.text.includes("Rain")), JSON.stringify(left));
  await fetch(`${product.api}/v1/jobs/cancel?limit=500`, { method: "POST" });
  assert.deepEqual(problems, []);
  await context.close();
});

for (const theme of ["light", "dark"]) {
  test(`the views of Operations and waiting jobs have no accessibility violation in the ${theme} theme, and fit 360 px`, async () => {
    for (const hash of ["#/operations", "#/jobs?view=waiting"]) {
      const { page, context } = await open(hash, { colorScheme: theme, bypassCSP: true, viewport: { width: 360, height: 760 } });
      await page.locator("main h1").first().waitFor();
      await page.waitForTimeout(1_500);
      assert.deepEqual(await violations(page), [], hash);
      const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= width, `${hash} is ${wide} px wide`);
      await context.close();
    }
  });
}
