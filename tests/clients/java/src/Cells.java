import com.google.api.client.http.GenericUrl;
import com.google.api.client.http.HttpRequest;
import com.google.api.client.http.javanet.NetHttpTransport;
import com.google.auth.http.HttpCredentialsAdapter;
import com.google.auth.oauth2.ComputeEngineCredentials;
import com.google.auth.oauth2.GoogleCredentials;
import java.util.List;

/** Google's own Java libraries with default credentials: the JDK's TLS, proxy and trust store. */
final class Cells {
  private static final String SCOPE = "https://www.googleapis.com/auth/cloud-platform";

  public static void main(String[] arguments) throws Exception {
    GoogleCredentials credentials = GoogleCredentials.getApplicationDefault().createScoped(List.of(SCOPE));
    if (!(credentials instanceof ComputeEngineCredentials)) {
      throw new AssertionError("default credentials are " + credentials.getClass());
    }
    var factory = new NetHttpTransport().createRequestFactory(new HttpCredentialsAdapter(credentials));
    HttpRequest request =
        factory.buildGetRequest(new GenericUrl("https://storage.googleapis.com/storage/v1/b/cells"));
    String body = request.execute().parseAsString();
    if (!body.contains("\"storage#bucket\"")) {
      throw new AssertionError("unexpected answer: " + body);
    }
  }
}
