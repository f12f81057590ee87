import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/**
 * Registers a deadline over HTTP. Java 11 or later, no libraries.
 *
 * <pre>OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders java OverHttp.java order-42</pre>
 */
public class OverHttp {
    public static void main(String[] args) throws Exception {
        String url = System.getenv().getOrDefault("OVERDUE_URL", "http://127.0.0.1:7700");
        String queue = System.getenv().getOrDefault("QUEUE", "orders");
        // URLEncoder is for forms, where a space is a plus.
        String id = URLEncoder.encode(args[0], StandardCharsets.UTF_8).replace("+", "%20");
        String body = "{\"delay\":\"30m\",\"payload\":{\"amount\":\"100.00\"}}";
        HttpRequest.Builder request = HttpRequest.newBuilder()
                .uri(URI.create(url + "/v1/queues/" + queue + "/deadlines/" + id))
                .timeout(Duration.ofSeconds(10))
                .header("Content-Type", "application/json")
                .PUT(HttpRequest.BodyPublishers.ofString(body));
        String token = System.getenv("OVERDUE_TOKEN");
        if (token != null) {
            request.header("Authorization", "Bearer " + token);
        }
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpResponse<String> answer = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
        if (answer.statusCode() >= 300) {
            System.exit(1);
        }
    }
}
