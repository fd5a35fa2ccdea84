import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import javax.net.ssl.HttpsURLConnection;

/**
 * The JDK's clients.
 *
 * <pre>java -cp CLASSES Jdk HttpClient|HttpClient-h2|HttpURLConnection form|raw URL FILE</pre>
 */
final class Jdk {
    public static void main(String[] args) throws Exception {
        Upload.run(args, (client, body) -> switch (client) {
            case "HttpClient" -> httpClient(body, HttpClient.Version.HTTP_1_1);
            case "HttpClient-h2" -> httpClient(body, HttpClient.Version.HTTP_2);
            default -> httpUrlConnection(body);
        });
    }

    private static Upload.Response httpClient(Upload.Body body, HttpClient.Version version) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(version).sslContext(Upload.anyone()).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(body.url()))
                .header("Content-Type", body.type())
                .timeout(Duration.ofSeconds(Upload.TIMEOUT))
                .POST(BodyPublishers.ofByteArray(body.content()))
                .build();
        var response = client.send(request, BodyHandlers.ofString());
        String over = response.version() == HttpClient.Version.HTTP_2 ? "2" : "1.1";
        return new Upload.Response(response.statusCode(), over, response.body());
    }

    private static Upload.Response httpUrlConnection(Upload.Body body) throws Exception {
        var connection = (HttpURLConnection) URI.create(body.url()).toURL().openConnection();
        if (connection instanceof HttpsURLConnection tls) {
            tls.setSSLSocketFactory(Upload.anyone().getSocketFactory());
            tls.setHostnameVerifier((host, session) -> true);
        }
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", body.type());
        connection.setFixedLengthStreamingMode(body.content().length);
        connection.setReadTimeout(Upload.TIMEOUT * 1000);
        try (OutputStream out = connection.getOutputStream()) {
            out.write(body.content());
        }
        int status = connection.getResponseCode();
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return new Upload.Response(status, "1.1", new String(in.readAllBytes()));
        }
    }
}
