"""PyJWT's verdict on tokens of the token API: signature, header and claims, to the last one."""

import json
import os
import time
import urllib.request

import jwt

told = json.loads(os.environ["TOLD"])
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(path):
    request = urllib.request.Request(told["api"] + path, headers={"X-Bearerd-Token-Request": "true"})
    with direct.open(request, timeout=20) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return json.load(answer)


def verify(token, public, header, claims, lifetime):
    found = jwt.decode(
        token, public, algorithms=[header["alg"]], audience=claims["aud"], options={"require": ["iat", "exp"], "strict_aud": True}
    )
    assert jwt.get_unverified_header(token) == header, jwt.get_unverified_header(token)
    iat, exp = found.pop("iat"), found.pop("exp")
    assert found == claims, found
    assert exp - iat == lifetime and time.time() - 60 < iat <= time.time(), (iat, exp)
    head, payload, signature = token.split(".")
    other = ("B" if payload[20] != "B" else "C").join((payload[:20], payload[21:]))
    try:
        jwt.decode(f"{head}.{other}.{signature}", public, algorithms=[header["alg"]], options={"verify_aud": False})
    except jwt.InvalidTokenError:
        return iat, exp
    raise AssertionError("a changed token is taken")


driver = ask("/token/driver/vehicle-1")
claims = {"iss": told["email"], "sub": told["email"], "aud": "https://fleetengine.googleapis.com/"}
claims["authorization"] = {"vehicleid": "vehicle-1"}
head = {"alg": "RS256", "typ": "JWT", "kid": told["keyId"]}
iat, exp = verify(driver["jwt"], told["rsa"], head, claims, 3600)
assert driver == {"jwt": driver["jwt"], "creationTimestamp": iat * 1000, "expirationTimestamp": exp * 1000}, driver

device = ask("/v1/tokens/device")
verify(device["access_token"], told["ec"], {"alg": "ES256", "typ": "JWT"}, {"aud": "my-project"}, 600)
with open(told["file"], encoding="ascii") as file:
    verify(file.read(), told["ec"], {"alg": "ES256", "typ": "JWT"}, {"aud": "my-project"}, 600)
print("verified")
