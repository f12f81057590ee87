// Registers a deadline by plain ZADD, with ioredis.
//   REDIS_URL=redis://127.0.0.1:6379 QUEUE=orders node over_redis.mjs order-42
import Redis from "ioredis";

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");
const [queue, id] = [process.env.QUEUE ?? "orders", process.argv[2]];
const due = Date.now() + 30 * 60 * 1000;
await redis.hset(`overdue:{${queue}}:payload`, id, '{"amount":"100.00"}'); // before the ZADD
await redis.zadd(`overdue:{${queue}}:scheduled`, due, id);
console.log(due);
await redis.quit();
