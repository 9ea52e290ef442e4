"""PyJWT's verdict on assertions: JSON on standard input, {public, keyId, email, assertions}."""

import json
import sys

import jwt

AUDIENCE = "https://oauth2.googleapis.com/token"
told = json.load(sys.stdin)
assert told["assertions"], "no assertion came"
for assertion in told["assertions"]:
    claims = jwt.decode(
        assertion,
        told["public"],
        algorithms=["RS256"],
        audience=AUDIENCE,
        issuer=told["email"],
        options={"require": ["iss", "aud", "iat", "exp", "scope"], "strict_aud": True},
    )
    assert 0 < claims["exp"] - claims["iat"] <= 3600, claims
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform", claims
    assert set(claims) == {"iss", "aud", "iat", "exp", "scope"}, claims
    header = jwt.get_unverified_header(assertion)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": told["keyId"]}, header
