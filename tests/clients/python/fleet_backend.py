"""The example of a fleet's backend, as phones use it: their own vehicle's token, and nobody else's.

It is started as in its manifest: with the environment that the sidecar gives, and no credential.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import jwt

BACKEND = pathlib.Path(__file__).resolve().parents[3] / "manifests" / "examples" / "fleet-engine" / "backend.py"
DRIVERS = {"ann": "vehicle-1", "bob": "vehicle-2"}
told = json.loads(os.environ["TOLD"])
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(port, path, session=None):
    headers = {"Authorization": f"Bearer {session}"} if session else {}
    # As behind a load balancer: none of these goes on to the sidecar.
    headers |= {"X-Forwarded-For": "203.0.113.7", "Origin": "https://app.example"}
    try:
        with direct.open(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def vehicle_of(answer):
    claims = jwt.decode(answer["jwt"], told["rsa"], algorithms=["RS256"], audience="https://fleetengine.googleapis.com/")
    assert answer["expirationTimestamp"] == claims["exp"] * 1000, answer
    return claims["authorization"]


def play(port):
    for driver, vehicle in DRIVERS.items():
        status, answer = ask(port, "/token", f"session of {driver}")
        assert (status, vehicle_of(answer)) == (200, {"vehicleid": vehicle}), (status, answer)
    status, answer = ask(port, "/token?vehicle=vehicle-1", "session of ann")
    assert (status, vehicle_of(answer)) == (200, {"vehicleid": "vehicle-1"})
    for path, session, status in [
        ("/token?vehicle=vehicle-2", "session of ann", 403),
        ("/token?vehicle=*", "session of ann", 403),
        ("/token?vehicle=vehicle-1", "session of bob", 403),
        ("/vehicle?vehicle=vehicle-1", "session of bob", 403),
        ("/token", None, 401),
        ("/token", "session of eve", 401),
        ("/token?vehicle=vehicle-1", "session of eve", 401),
        ("/vehicle", None, 401),
        ("/token/driver/vehicle-1", "session of ann", 404),
    ]:
        found = ask(port, path, session)
        assert found[0] == status and "jwt" not in found[1], (path, session, found)
    # Its own call: the sidecar puts the server role's token on it.
    status, answer = ask(port, "/vehicle", "session of ann")
    assert (status, answer["name"]) == (200, "providers/cells-project/vehicles/vehicle-1"), (status, answer)


with tempfile.TemporaryDirectory() as folder:
    drivers = pathlib.Path(folder, "drivers.json")
    hashed = {hashlib.sha256(f"session of {who}".encode()).hexdigest(): {"driver": who, "vehicle": own} for who, own in DRIVERS.items()}
    drivers.write_text(json.dumps(hashed))
    environment = os.environ | {"DRIVERS": str(drivers), "PROJECT": "cells-project", "PORT": "0", "TOKEN_API": told["api"]}
    backend = subprocess.Popen([sys.executable, "-u", BACKEND], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        play(int(backend.stdout.readline().rsplit(" ", 1)[1]))
    finally:
        backend.kill()
        backend.communicate()
print("served")
