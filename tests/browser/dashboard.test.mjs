// Drives the dashboard with a real browser. scripts/test-browser runs it.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TOKENS, launch, open, press, serve, text, violations } from "./site.mjs";

const HOSTILE = `<img src=x onerror="alert('id')"><script>alert('id')</script>`;
let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser.close();
});

/// Ids of `late` that are due and in the dead set.
async function bury(site, queue, ids) {
  for (const id of ids) site.overdue("schedule", queue, id, "--in", "0s");
  const call = async (verb, body) => {
    const answer = await fetch(`${site.base}/v1/queues/${queue}/${verb}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    assert.equal(answer.status, 200);
    return answer.json();
  };
  const { deliveries } = await call("claim", { limit: ids.length, wait: "30s" });
  assert.equal(deliveries.length, ids.length);
  const error = `out of paper ${HOSTILE}`;
  await call("bury", { deliveries: deliveries.map(({ id, token }) => ({ id, token, error })) });
}

test("a late queue is found, an id of it opened and cancelled", async () => {
  const site = await serve(["late", "quiet"]);
  const page = await open(browser);
  await page.goto(site.base);
  assert.match(await text(page), /All deadlines fire on time/);
  site.overdue("schedule", "late", "order-42", "--in", "0s");
  // By itself: nobody reloads.
  await page.waitForFunction(() => /Late: late\. 1 id due/.test(document.body.innerText));
  assert.equal(await page.$eval("tr[data-state=late] a", (link) => link.textContent), "late");
  await press(page, "late");
  await press(page, "order-42");
  assert.match(await text(page), /scheduled/);
  await press(page, "Cancel it");
  assert.match(await text(page), /Cancelled: it will not fire/);
  assert.equal(JSON.parse(site.overdue("stats", "late", "-o", "json"))[0].scheduled, 0);
  assert.deepEqual(page.bad, []);
  await site.stop();
});

test("the dead are retried in bulk, after a look at how many they are", async () => {
  const site = await serve(["late"]);
  await bury(site, "late", ["order-1", "order-2", "cart-1"]);
  const page = await open(browser);
  await page.goto(`${site.base}/queues/late`);
  await press(page, "Retry dead ids…");
  assert.match(await text(page), /3 ids will be due now/);
  await page.type("#prefix", "order-");
  await press(page, "Count again");
  assert.match(await text(page), /2 ids will be due now/);
  await press(page, "Retry 2 ids");
  assert.match(await text(page), /2 ids are due now/);
  const [stats] = JSON.parse(site.overdue("stats", "late", "-o", "json"));
  assert.deepEqual([stats.due, stats.dead], [2, 1]);
  await site.stop();
});

test("ids, payloads and errors are text, and nothing in them runs", async () => {
  const site = await serve(["late"]);
  const payload = JSON.stringify({ note: HOSTILE });
  site.overdue("schedule", "late", HOSTILE, "--in", "1h", "--payload", payload);
  await bury(site, "late", ["dies"]);
  const page = await open(browser);
  for (const path of ["/queues/late", `/queues/late/id?id=${encodeURIComponent(HOSTILE)}`, "/queues/late/id?id=dies",
    "/queues/late/dead?action=delete", `/queues/late?done=${encodeURIComponent(HOSTILE)}`]) {
    await page.goto(site.base + path);
    assert.equal(await page.$$eval("img, main script, iframe", (found) => found.length), 0, path);
    if (!path.includes("action")) assert.ok((await text(page)).includes("<script>alert('id')</script>"), path);
  }
  assert.deepEqual(page.bad, []);
  await site.stop();
});

test("it works without a mouse", async () => {
  const site = await serve(["late"]);
  site.overdue("schedule", "late", "order-42", "--in", "1h");
  const page = await open(browser);
  await page.goto(`${site.base}/queues/late`);
  await page.focus("#id");
  await page.keyboard.type("order-42");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  for (let tabs = 0; tabs < 30; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.textContent === "Cancel it")) break;
  }
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "none");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  assert.match(await text(page), /Cancelled: it will not fire/);
  await site.stop();
});

test("it works without a script", async () => {
  const site = await serve(["late"]);
  site.overdue("schedule", "late", "order-42", "--in", "1h");
  const page = await open(browser, { script: false });
  await page.goto(site.base);
  await press(page, "late");
  await press(page, "order-42");
  await press(page, "Cancel it");
  assert.match(await page.content(), /Cancelled: it will not fire/);
  await site.stop();
});

test("many pages after one another do not use up the connections of the browser", async () => {
  const site = await serve(["late"]);
  const page = await open(browser);
  for (let n = 0; n < 20; n += 1) {
    await page.goto(`${site.base}/queues/late`);
    await page.waitForFunction(() => document.getElementById("connection").textContent === "live");
  }
  await site.stop();
});

test("with a token one logs in, and may what it may", async () => {
  const site = await serve(["late"], TOKENS);
  site.overdue("schedule", "late", "order-42", "--in", "1h");
  const page = await open(browser);
  const logIn = async (token) => {
    await page.type("#token", token);
    await press(page, "Log in");
  };
  await page.goto(`${site.base}/queues/late/id?id=order-42`);
  await logIn("nobody-0123456789abcdef");
  assert.match(await text(page), /not known here/);
  await logIn("watch-0123456789abcdef");
  assert.match(await text(page), /order-42/);
  assert.doesNotMatch(await text(page), /Cancel it/);
  await press(page, "Log out");
  await logIn("ops-0123456789abcdef");
  await page.goto(`${site.base}/queues/late/id?id=order-42`);
  await press(page, "Cancel it");
  assert.match(await text(page), /Cancelled: it will not fire/);
  await site.stop();
});

test("read-only offers no action", async () => {
  const site = await serve(["late"], "", ["--read-only"]);
  await bury(site, "late", ["order-1"]);
  const page = await open(browser);
  for (const path of ["/queues/late", "/queues/late/id?id=order-1"]) {
    await page.goto(site.base + path);
    assert.equal(await page.$$eval("form[method=post]", (forms) => forms.length), 0, path);
  }
  await site.stop();
});

test("every page is accessible, fits a phone, and is worth a look", async () => {
  const site = await serve(["orders", "carts", "reminders"]);
  await bury(site, "carts", ["cart-1", "cart-2"]);
  for (let n = 1; n <= 40; n += 1) site.overdue("schedule", "orders", `order-${n}`, "--in", `${n * n}m`);
  site.overdue("schedule", "carts", "cart-3", "--in", "0s", "--payload", '{"customer":"Ada","amount":"49.90"}');
  site.overdue("order", "create", "order-1", "--queue", "shop", "--in", "30m");
  const paths = {
    overview: "/", queue: "/queues/orders", late: "/queues/carts", dead: "/queues/carts?state=dead",
    id: "/queues/carts/id?id=cart-3", bulk: "/queues/carts/dead?action=retry", orders: "/orders/shop",
    order: "/orders/shop/order?id=order-1", login: "/login", missing: "/queues/nowhere",
  };
  const shots = process.env.SCREENSHOTS;
  if (shots) mkdirSync(shots, { recursive: true });
  for (const scheme of ["light", "dark"]) {
    for (const [size, width] of Object.entries({ desktop: 1280, phone: 375 })) {
      const page = await open(browser, { width, scheme });
      for (const [name, path] of Object.entries(paths)) {
        await page.goto(site.base + path);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(over <= 0, `${name} is ${over} px too wide for a ${size}`);
        assert.deepEqual(await violations(page), [], `${name} ${size} ${scheme}`);
        if (shots) await page.screenshot({ path: join(shots, `${name}-${size}-${scheme}.png`), fullPage: true });
      }
      assert.deepEqual(page.bad, []);
      await page.browserContext().close();
    }
  }
  await site.stop();
});
