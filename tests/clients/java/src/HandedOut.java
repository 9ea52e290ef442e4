import com.nimbusds.jose.JWSVerifier;
import com.nimbusds.jose.crypto.ECDSAVerifier;
import com.nimbusds.jose.crypto.RSASSAVerifier;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.SignedJWT;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.interfaces.ECPublicKey;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.X509EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** Nimbus's verdict on tokens of the token API: signature, header and claims, to the last one. */
final class HandedOut {
  private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  public static void main(String[] arguments) throws Exception {
    Map<String, Object> told = JSONObjectUtils.parse(System.getenv("TOLD"));
    String email = (String) told.get("email");

    Map<String, Object> driver = ask(told, "/token/driver/vehicle-1");
    Map<String, Object> header = Map.of("alg", "RS256", "typ", "JWT", "kid", told.get("keyId"));
    Map<String, Object> claims =
        Map.of(
            "iss", email,
            "sub", email,
            "aud", "https://fleetengine.googleapis.com/",
            "authorization", Map.of("vehicleid", "vehicle-1"));
    JWSVerifier rsa = new RSASSAVerifier((RSAPublicKey) key(told.get("rsa"), "RSA"));
    long[] times = verify((String) driver.get("jwt"), rsa, header, claims, 3600);
    expect(driver.size(), 3);
    expect(driver.get("creationTimestamp"), times[0] * 1000);
    expect(driver.get("expirationTimestamp"), times[1] * 1000);

    String device = (String) ask(told, "/v1/tokens/device").get("access_token");
    JWSVerifier ec = new ECDSAVerifier((ECPublicKey) key(told.get("ec"), "EC"));
    verify(device, ec, Map.of("alg", "ES256", "typ", "JWT"), Map.of("aud", "my-project"), 600);
    System.out.println("verified");
  }

  private static long[] verify(
      String token, JWSVerifier verifier, Map<String, Object> header, Map<String, Object> claims, long lifetime)
      throws Exception {
    SignedJWT jwt = SignedJWT.parse(token);
    expect(jwt.verify(verifier), true);
    expect(jwt.getHeader().toJSONObject(), header);
    Map<String, Object> found = new HashMap<>(jwt.getPayload().toJSONObject());
    long issued = (Long) found.remove("iat");
    long expires = (Long) found.remove("exp");
    expect(found, claims);
    expect(expires - issued, lifetime);
    String[] parts = token.split("\\.");
    String other = Base64.getUrlEncoder().withoutPadding().encodeToString("{\"aud\":\"x\"}".getBytes());
    expect(SignedJWT.parse(parts[0] + "." + other + "." + parts[2]).verify(verifier), false);
    return new long[] {issued, expires};
  }

  private static Map<String, Object> ask(Map<String, Object> told, String path) throws Exception {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(told.get("api") + path)).header("X-Bearerd-Token-Request", "true").build();
    HttpResponse<String> answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
    expect(answer.statusCode(), 200);
    return JSONObjectUtils.parse(answer.body());
  }

  private static PublicKey key(Object pem, String kind) throws Exception {
    String body = ((String) pem).replaceAll("-----[^-]+-----|\\s", "");
    return KeyFactory.getInstance(kind).generatePublic(new X509EncodedKeySpec(Base64.getDecoder().decode(body)));
  }

  private static void expect(Object found, Object wanted) {
    if (!wanted.equals(found)) {
      throw new AssertionError("found " + found + ", want " + wanted);
    }
  }
}
