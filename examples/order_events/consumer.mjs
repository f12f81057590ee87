// Follows what happens to orders, as one of a group: npm install ioredis && node consumer.mjs [redis://…]
//
// Each event goes to one consumer of the group, and stays with it until it is acknowledged. What a consumer that died
// had taken goes to another after a minute. So an event can come twice: whatever is done with it must be safe to repeat.
import { hostname } from "node:os";
import Redis from "ioredis";

const STREAM = "overdue:{orders}:events", GROUP = "shipping";
const CONSUMER = `${hostname()}-${process.pid}`;
const client = new Redis(process.argv[2] ?? "redis://127.0.0.1:6379");

function handle(event) {
  console.log(event.type, event.id, event.at);
}

await client.xgroup("CREATE", STREAM, GROUP, "0", "MKSTREAM").catch((error) => {
  if (!error.message.includes("BUSYGROUP")) throw error; // the group is there already
});

for (;;) {
  const [, leftBehind] = await client.xautoclaim(STREAM, GROUP, CONSUMER, 60_000, "0", "COUNT", 100);
  const fresh = await client.xreadgroup(
    "GROUP", GROUP, CONSUMER, "COUNT", 100, "BLOCK", 1000, "STREAMS", STREAM, ">",
  );
  const taken = leftBehind.filter(Boolean); // Redis 6.2 tells of entries that were trimmed meanwhile
  for (const [entry, flat] of [...taken, ...(fresh?.[0][1] ?? [])]) {
    const pairs = flat.flatMap((name, i) => (i % 2 ? [] : [[name, flat[i + 1]]]));
    handle(Object.fromEntries(pairs));
    await client.xack(STREAM, GROUP, entry);
  }
}
