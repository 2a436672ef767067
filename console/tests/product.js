// A product on free ports, and a browser.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
const PROGRAM = process.env.PRECIS_PROGRAM ?? path.join(TARGET, "debug", "precis");

function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts `precis up` and waits until it is up. */
export async function startProduct({ settings = [], config = "", dir = mkdtempSync(path.join(tmpdir(), "precis-console-")), ports } = {}) {
  ports ??= Object.fromEntries(await Promise.all(["api", "monitor", "clickhouse", "nats", "worker"].map(async (name) => [name, await freePort()])));
  writeFileSync(path.join(dir, "precis.toml"), config);
  const all = [
    `api.listen=127.0.0.1:${ports.api}`,
    `monitor.listen=127.0.0.1:${ports.monitor}`,
    `clickhouse.url=http://127.0.0.1:${ports.clickhouse}`,
    `nats.url=nats://127.0.0.1:${ports.nats}`,
    `worker.admin_listen=127.0.0.1:${ports.worker}`,
    "monitor.max_block_wait_ms=50",
    ...settings,
  ];
  const child = spawn(PROGRAM, ["up", "--stop-with-parent", ...all.flatMap((one) => ["--set", one])], { cwd: dir, stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  await new Promise((resolve, reject) => {
    const read = (chunk) => {
      output += chunk;
      if (output.includes("Precis is up.")) resolve();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => reject(new Error(`precis up ended with ${code}:\n${output}`)));
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  return {
    api: `http://127.0.0.1:${ports.api}`,
    monitor: `http://127.0.0.1:${ports.monitor}`,
    dir,
    /** Publishes a text to NATS, for a model. */
    publish(text, model) {
      const file = path.join(dir, "text.txt");
      writeFileSync(file, text);
      execFileSync(PROGRAM, ["producer", "--set", `nats.url=nats://127.0.0.1:${ports.nats}`, "publish", file, "--model", model], { cwd: dir });
    },
    /** Sends a signal to one of the processes that `precis up` started, by a part of its command line. */
    signal(part, name) {
      const list = execFileSync("ps", ["-eo", "pid,args", "--no-headers"]).toString();
      const ids = list.split("\n").filter((line) => line.includes(part) && line.includes(dir)).map((line) => Number(line.trim().split(" ")[0]));
      ids.forEach((id) => process.kill(id, name));
      return ids.length;
    },
    async stop({ keep = false } = {}) {
      child.kill("SIGINT");
      await ended;
      if (!keep) rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Starts Chromium. Fails with a clear message where there is none. */
export async function startBrowser() {
  const names = [process.env.PRECIS_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const executablePath = names.find((name) => name && existsSync(name));
  assert.ok(executablePath, "no Chromium was found: install Debian's package `chromium`, or set PRECIS_CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

/** Opens a page that fails the test for errors of scripts and violations of the content security policy. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // A refused request is part of some tests.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(message.text());
  });
  await page.goto(url);
  return { page, context, problems };
}
