// The console while parts of the product are away, and with API keys.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openPage, startBrowser, startProduct } from "./product.js";

let browser;

before(async () => {
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
});

const TEXT = "The harbour bridge will close on Monday, the city said. Ferries will run until it opens again in March.";

async function summarize(page) {
  await page.locator("textarea.text").fill(TEXT);
  await page.getByRole("button", { name: "Summarize", exact: true }).click();
}

test("without ClickHouse the analytics say so and the rest works", async () => {
  const product = await startProduct({ settings: ["clickhouse.query_timeout_seconds=3"] });
  // Frozen, so that `precis up` does not restart it.
  assert.ok(product.signal("clickhouse", "SIGSTOP") > 0);
  try {
    const { page, context } = await openPage(browser, `${product.api}/#/analytics`);
    await page.getByText("analytics_unavailable").first().waitFor({ timeout: 60_000 });
    await page.goto(`${product.api}/#/summarize`);
    await summarize(page);
    await page.locator(".status.succeeded").waitFor({ timeout: 60_000 });
    await page.goto(`${product.api}/#/operations`);
    await page.locator(".health.bad").getByText("ClickHouse").waitFor({ timeout: 60_000 });
    await context.close();
  } finally {
    product.signal("clickhouse", "SIGCONT");
    await product.stop();
  }
});

test("a job survives a pause of NATS, and its page shows the result", async () => {
  const product = await startProduct();
  try {
    const { page, context } = await openPage(browser, `${product.api}/#/summarize?num_beams=64&min_new_tokens=200&max_new_tokens=200&first_sentence=false`);
    await summarize(page);
    await page.locator(".summary.writing, .status.running").first().waitFor({ timeout: 60_000 });
    assert.ok(product.signal("nats-server", "SIGSTOP") > 0);
    await page.waitForTimeout(3_000);
    product.signal("nats-server", "SIGCONT");
    await page.locator(".status.succeeded").waitFor({ timeout: 120_000 });
    await context.close();
  } finally {
    product.signal("nats-server", "SIGCONT");
    await product.stop();
  }
});

test("with API keys the page asks for one, keeps it in the tab and sends it", async () => {
  // SHA-256 of precis_test_one.
  const config = '[[access.keys]]\nname = "one"\nhash = "sha256:7a016e34bdd16c04d0daa9c61e4bde72b716a329605815b791944b3c7352db07"\n';
  const product = await startProduct({ config });
  try {
    const { page, context } = await openPage(browser, `${product.api}/#/summarize`);
    const dialog = page.getByRole("dialog", { name: "API key" });
    await dialog.getByText("The gateway needs an API key").waitFor({ timeout: 30_000 });
    await dialog.getByRole("textbox").fill("precis_test_one");
    await dialog.getByRole("button", { name: "Use key" }).click();
    await page.getByText("1 worker live").waitFor();
    await summarize(page);
    await page.locator(".status.succeeded").waitFor({ timeout: 60_000 });
    assert.ok(!page.url().includes("precis_test_one"));
    await page.getByRole("button", { name: "curl" }).first().click();
    const shown = await page.getByRole("dialog").textContent();
    assert.ok(shown.includes("$PRECIS_API_KEY") && !shown.includes("precis_test_one"));
    assert.equal(await page.evaluate(() => Object.values(localStorage).some((value) => value.includes("precis_test"))), false);
    await context.close();
    const second = await openPage(browser, `${product.api}/#/jobs`);
    await second.page.getByRole("dialog", { name: "API key" }).waitFor();
    await second.context.close();
  } finally {
    await product.stop();
  }
});
