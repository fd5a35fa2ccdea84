import java.util.List;
import java.util.concurrent.TimeUnit;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Protocol;
import okhttp3.Request;
import okhttp3.RequestBody;
import org.apache.hc.client5.http.classic.methods.HttpPost;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.client5.http.ssl.NoopHostnameVerifier;
import org.apache.hc.client5.http.ssl.SSLConnectionSocketFactory;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.EntityUtils;

/**
 * The clients that are packages: OkHttp, and Apache HttpClient 5.
 *
 * <pre>java -cp CLASSES:JARS Jars okhttp|okhttp-h2|apache form|raw URL FILE</pre>
 */
final class Jars {
    public static void main(String[] args) throws Exception {
        Upload.run(args, (client, body) -> switch (client) {
            case "okhttp" -> okHttp(body, List.of(Protocol.HTTP_1_1));
            case "okhttp-h2" -> okHttp(body, http2(body.url()));
            default -> apache(body);
        });
    }

    private static List<Protocol> http2(String url) {
        return url.startsWith("https:")
                ? List.of(Protocol.HTTP_2, Protocol.HTTP_1_1)
                : List.of(Protocol.H2_PRIOR_KNOWLEDGE);
    }

    private static Upload.Response okHttp(Upload.Body body, List<Protocol> protocols) throws Exception {
        OkHttpClient client = new OkHttpClient.Builder()
                .protocols(protocols)
                .sslSocketFactory(Upload.anyone().getSocketFactory(), Upload.TRUST)
                .hostnameVerifier((host, session) -> true)
                .retryOnConnectionFailure(false)
                .readTimeout(Upload.TIMEOUT, TimeUnit.SECONDS)
                .writeTimeout(Upload.TIMEOUT, TimeUnit.SECONDS)
                .build();
        Request request = new Request.Builder()
                .url(body.url())
                .post(RequestBody.create(MediaType.parse(body.type()), body.content()))
                .build();
        try (var response = client.newCall(request).execute()) {
            boolean is2 = response.protocol() != Protocol.HTTP_1_1;
            return new Upload.Response(response.code(), is2 ? "2" : "1.1", response.body().string());
        }
    }

    private static Upload.Response apache(Upload.Body body) throws Exception {
        var sockets = new SSLConnectionSocketFactory(Upload.anyone(), NoopHostnameVerifier.INSTANCE);
        var manager = PoolingHttpClientConnectionManagerBuilder.create().setSSLSocketFactory(sockets).build();
        try (var client = HttpClients.custom().setConnectionManager(manager).disableAutomaticRetries().build()) {
            HttpPost post = new HttpPost(body.url());
            post.setEntity(new ByteArrayEntity(body.content(), ContentType.parse(body.type())));
            return client.execute(post, response ->
                    new Upload.Response(response.getCode(), "1.1", EntityUtils.toString(response.getEntity())));
        }
    }
}
