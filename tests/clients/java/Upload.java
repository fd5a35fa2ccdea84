import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * Uploads a file and prints the response: the status and the version in the first line, and the
 * body after it. Exits with 0 if a whole response was read, otherwise with 1 and the error.
 */
final class Upload {
    /** In seconds. */
    static final int TIMEOUT = 120;

    record Body(String url, String type, byte[] content) {}

    record Response(int status, String version, String text) {}

    interface Client {
        Response upload(String client, Body body) throws Exception;
    }

    /** Takes the client, the shape, the URL and the file from the arguments. */
    static void run(String[] args, Client client) throws Exception {
        byte[] content = Files.readAllBytes(Path.of(args[3]));
        Body body = new Body(args[2], "application/octet-stream", content);
        try {
            Response response = client.upload(args[0], args[1].equals("form") ? form(body) : body);
            System.out.printf("%d over HTTP/%s%n%s%n", response.status(), response.version(), response.text());
            // Clients have threads that keep the process running.
            System.exit(0);
        } catch (Exception error) {
            System.err.println(error);
            for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
                System.err.println("caused by: " + cause);
            }
            System.exit(1);
        }
    }

    private static Body form(Body body) throws Exception {
        String boundary = "a-boundary-that-is-in-no-file";
        var form = new ByteArrayOutputStream(body.content().length + 500);
        form.write(("--" + boundary + "\r\nContent-Disposition: form-data; name=\"photopicker\"; "
                + "filename=\"a.bin\"\r\n\r\n").getBytes());
        form.write(body.content());
        form.write(("\r\n--" + boundary + "--\r\n").getBytes());
        return new Body(body.url(), "multipart/form-data; boundary=" + boundary, form.toByteArray());
    }

    /** Accepts any certificate, for any name. */
    static SSLContext anyone() throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {TRUST}, null);
        return context;
    }

    static final X509ExtendedTrustManager TRUST = new X509ExtendedTrustManager() {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) {}

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    };
}
