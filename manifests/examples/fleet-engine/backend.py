#!/usr/bin/env python3
"""A backend for drivers' phones, of nothing but Python's standard library. It holds no key and no credential of Google's.

    GET /token        what the phone's SDK needs: a JWT for the driver's own vehicle, made by the sidecar
    GET /vehicle      the driver's vehicle as Fleet Engine knows it: the backend's own call, with default credentials
    GET /healthz      for probes

A phone logs in with `Authorization: Bearer SESSION`; who that is, and which vehicle is theirs, stands in the file
DRIVERS. Yours asks your own login and database there: that is the part which nobody else can do for you.

    DRIVERS     a JSON file: {"SHA-256 of a session, in hex": {"driver": "ann", "vehicle": "vehicle-1"}, ...}
    PROJECT     the Google Cloud project of the fleet
    PORT        where to listen (8080)
    TOKEN_API   the sidecar's (http://127.0.0.1:14183)
"""

import hashlib
import http.server
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

TOKEN_API = os.environ.get("TOKEN_API", "http://127.0.0.1:14183")
FLEET_ENGINE = "https://fleetengine.googleapis.com/v1"
LIMIT = 10  # seconds, for an answer

# The sidecar's door is on loopback: never through the proxy that HTTP_PROXY may name.
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """What the phone is told: a status, and one word."""

    def __init__(self, status, word, retry_after=None):
        super().__init__(word)
        self.status, self.word, self.retry_after = status, word, retry_after


def authenticated(authorization):
    """The driver whose session this is."""
    scheme, _, session = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not session:
        raise Refused(401, "log in first")
    with open(os.environ["DRIVERS"], encoding="utf-8") as file:
        drivers = json.load(file)
    driver = drivers.get(hashlib.sha256(session.encode()).hexdigest())
    if driver is None:
        raise Refused(401, "log in again")
    return driver


def own_vehicle(driver, asked):
    """The driver's vehicle. A phone may say which one it means; that alone is no reason to believe it."""
    if asked is not None and asked != driver["vehicle"]:
        raise Refused(403, "not your vehicle")
    return driver["vehicle"]


def token_for(vehicle):
    """The sidecar's answer, in the shape that its configuration gives it; handed on as it is."""
    # Built from our own database and not from what the phone sent, and with none of the phone's headers.
    request = urllib.request.Request(
        f"{TOKEN_API}/token/driver/{vehicle}", headers={"X-Bearerd-Token-Request": "true"}
    )
    try:
        with direct.open(request, timeout=LIMIT) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        reason = error.headers.get("x-bearerd-error", "")
        print(f"no token for a driver: {error.code} {reason}", file=sys.stderr, flush=True)
        raise Refused(503, "try again", error.headers.get("retry-after", "5")) from None
    except OSError as error:
        print(f"no token for a driver: {error}", file=sys.stderr, flush=True)
        raise Refused(503, "try again", "5") from None


def known_to_fleet_engine(vehicle):
    """A call of our own: no credential here. The sidecar's proxy (HTTPS_PROXY) puts the server role's token on it."""
    name = f"providers/{os.environ['PROJECT']}/vehicles/{vehicle}"
    try:
        with urllib.request.urlopen(f"{FLEET_ENGINE}/{name}", timeout=LIMIT) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        print(f"Fleet Engine: {error.code} {error.headers.get('x-bearerd-error', '')}", file=sys.stderr, flush=True)
        raise Refused(502, "Fleet Engine refused") from None
    except OSError as error:
        print(f"Fleet Engine: {error}", file=sys.stderr, flush=True)
        raise Refused(502, "Fleet Engine is out of reach") from None


class Phones(http.server.BaseHTTPRequestHandler):
    """Answers phones."""

    timeout = 30

    def do_GET(self):
        path, _, query = self.path.partition("?")
        try:
            self.answer(200, self.content(path, urllib.parse.parse_qs(query)))
        except Refused as refused:
            body = json.dumps({"error": refused.word}).encode()
            self.answer(refused.status, body, refused.retry_after)

    def content(self, path, query):
        if path == "/healthz":
            return b"{}"
        if path not in ("/token", "/vehicle"):
            raise Refused(404, "there is no such path")
        driver = authenticated(self.headers.get("Authorization"))
        vehicle = own_vehicle(driver, query.get("vehicle", [None])[0])
        return token_for(vehicle) if path == "/token" else known_to_fleet_engine(vehicle)

    def answer(self, status, body, retry_after=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # A token is for this phone alone.
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        """Without the query, which says who drives what."""


def main():
    address = ("", int(os.environ.get("PORT", "8080")))
    with http.server.ThreadingHTTPServer(address, Phones) as server:
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
