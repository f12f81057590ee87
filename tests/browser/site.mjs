// A process of overdue with a private Redis, and a browser that looks at it.
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

const binary = process.env.OVERDUE_BIN;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const TOKENS = `
[http.tokens.watch]
token = "watch-0123456789abcdef"
scopes = ["read"]
[http.tokens.ops]
token = "ops-0123456789abcdef"
scopes = ["admin"]
`;

/// Serves these queues, all by pull but for `orders.shop`, on a free port. `more` goes into the configuration.
export async function serve(queues, more = "", flags = []) {
  const dir = mkdtempSync(join(tmpdir(), "overdue-browser-"));
  const sections = queues.map((name) => `[queue.${name}]\npoll_interval = "20ms"\nhandler = { type = "pull" }\n`);
  const orders = `[queue.shop]\nhandler = { type = "order" }\n`;
  writeFileSync(join(dir, "overdue.toml"), `[http]\nlisten = "127.0.0.1:0"\n${more}\n${sections.join("")}${orders}`);
  const child = spawn(binary, ["serve", ...flags], { cwd: dir, stdio: ["ignore", "ignore", "pipe"] });
  const base = await new Promise((resolve, reject) => {
    let log = "";
    child.stderr.on("data", (bytes) => {
      log += bytes;
      const found = log.match(/serving.*http=(\S+)/);
      if (found) resolve(`http://${found[1]}`);
    });
    child.on("exit", () => reject(new Error(`serve ended: ${log}`)));
  });
  const overdue = (...words) => execFileSync(binary, words, { cwd: dir, encoding: "utf8" });
  const stop = async () => {
    child.removeAllListeners("exit");
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  return { base, overdue, stop, dir };
}

export function launch() {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
}

/// A page that remembers what must not happen: dialogs, errors, scripts that are not ours.
export async function open(browser, { width = 1280, scheme = "light", script = true } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setJavaScriptEnabled(script);
  page.bad = [];
  page.on("dialog", async (dialog) => {
    page.bad.push(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on("pageerror", (error) => page.bad.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // A status that is no success is what some tests are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      page.bad.push(`console: ${message.text()}`);
    }
  });
  return page;
}

/// Follows a link or sends a form, by the text on it.
export async function press(page, text) {
  const handle = await page.waitForSelector(`::-p-xpath(//*[self::a or self::button][normalize-space(.)="${text}"])`);
  await Promise.all([page.waitForNavigation(), handle.click()]);
}

export function text(page) {
  return page.evaluate(() => document.body.innerText);
}

/// What axe-core finds that is serious. It runs in a world of its own, where the policy of the page does not count.
export async function violations(page) {
  const session = await page.createCDPSession();
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  const run = `${axe}; axe.run().then((found) => JSON.stringify(found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => [id, nodes.map((node) => node.html)])))`;
  const answer = await session.send("Runtime.evaluate", {
    expression: run, contextId: executionContextId, awaitPromise: true, returnByValue: true,
  });
  if (answer.exceptionDetails) throw new Error(JSON.stringify(answer.exceptionDetails));
  return JSON.parse(answer.result.value);
}
