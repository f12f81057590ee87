// The driver for BullMQ; driver.py says what it is told and what it answers.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const { Redis } = require("ioredis");
const { Queue, Worker } = require("bullmq");

const QUEUE = "bench";
const WARM_UP_JOBS = 3000;
const SAY_EVERY_MS = 20;
const QUIET = { removeOnComplete: true };

const [role, text] = process.argv.slice(2);
const spec = JSON.parse(text);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const now = () => (performance.timeOrigin + performance.now()) / 1000;
// maxRetriesPerRequest must be null for workers; BullMQ says so itself otherwise.
const connect = () => new Redis({ host: "127.0.0.1", port: spec.port, maxRetriesPerRequest: null });

/** Jobs without data: the id is all there is, as with the others. */
function job(number, dueMs) {
  const id = "order-" + number.toString(16).padStart(7, "0");
  const data = spec.calls ? { due: dueMs } : {};
  return { name: "lapse", data, opts: { jobId: id, delay: Math.max(0, dueMs - Date.now()), ...QUIET } };
}

function share() {
  const lines = fs.readFileSync(spec.deadlines, "utf8").split("\n").filter(Boolean);
  return lines.map((line, number) => [number, Number(line)]).filter(([number]) => number % spec.shares === spec.share);
}

/** Calls of addBulk with `batch` jobs, `calls` of them under way at once. */
async function addAll(queue, entries) {
  let next = 0;
  const add = async () => {
    while (next < entries.length) {
      const some = entries.slice(next, (next += spec.batch));
      await queue.addBulk(some.map(([number, due]) => job(number, due)));
    }
  };
  await Promise.all(Array.from({ length: spec.calls_at_once ?? 1 }, add));
}

function worker(queue, handler) {
  const options = { connection: connect(), concurrency: spec.concurrency ?? 1, autorun: false, ...QUIET };
  return new Worker(queue, handler, options);
}

/** A process that was just started is slower than one that runs for a while. On a queue of its own, which it removes. */
async function warmUp(connection) {
  const name = "warm-" + process.pid;
  const queue = new Queue(name, { connection });
  for (let at = 0; at < WARM_UP_JOBS; at += 500) {
    await queue.addBulk(Array.from({ length: 500 }, (_, n) => job(at + n, Date.now() + 1)));
  }
  if (role === "work") {
    const warm = worker(name, async () => {});
    let left = WARM_UP_JOBS;
    const over = new Promise((resolve) => warm.on("completed", () => --left || resolve()));
    warm.run();
    await over;
    await warm.close();
  }
  await queue.obliterate({ force: true });
}

async function put(go, connection) {
  const queue = new Queue(QUEUE, { connection });
  const entries = share();
  await queue.waitUntilReady();
  say({ ready: true });
  await go.next();
  const began = now();
  await addAll(queue, entries);
  say({ began, ended: now() });
  process.exit(0);
}

async function work(go) {
  let done = 0, said = 0, last = 0;
  const calls = [];
  const note = async (job) => void calls.push([job.data.due, now() * 1000]);
  const worked = worker(QUEUE, spec.calls ? note : async () => {});
  // Emitted when Redis has confirmed the ack, which also fetches the next job.
  worked.on("completed", () => void ((done += 1), (last = now())));
  await worked.waitUntilReady();
  setInterval(() => done > said && say({ done: (said = done) }), SAY_EVERY_MS);
  say({ ready: true });
  await go.next();
  const began = now();
  worked.run();
  await go.next();
  process.stdout.write(JSON.stringify({ began, last, calls }) + "\n", () => process.exit(0));
}

async function main() {
  const go = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const connection = connect();
  await warmUp(connection);
  await (role === "put" ? put(go, connection) : work(go));
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
