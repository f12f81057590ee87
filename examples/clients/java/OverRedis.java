import redis.clients.jedis.JedisPooled;

/**
 * Registers a deadline by plain ZADD, with Jedis 4 or later on the class path.
 *
 * <pre>REDIS_URL=redis://127.0.0.1:6379 QUEUE=orders java -cp jedis.jar OverRedis.java order-42</pre>
 */
public class OverRedis {
    public static void main(String[] args) {
        String url = System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6379");
        String prefix = "overdue:{" + System.getenv().getOrDefault("QUEUE", "orders") + "}:";
        try (JedisPooled redis = new JedisPooled(url)) {
            double due = System.currentTimeMillis() + 30 * 60 * 1000;
            redis.hset(prefix + "payload", args[0], "{\"amount\":\"100.00\"}"); // before the ZADD
            redis.zadd(prefix + "scheduled", due, args[0]);
            System.out.printf("%.0f%n", due);
        }
    }
}
