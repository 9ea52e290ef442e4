"""A program that does it by hand: signs a JWT, exchanges it, lists instances with what it got."""

import json
import sys
import time

import jwt
import requests

TOKEN_URL = "https://www.googleapis.com/oauth2/v4/token"
SCOPES = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME = 3600


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def signed_jwt(key):
    issued = int(time.time())
    headers = {"kid": key["private_key_id"], "alg": "RS256", "typ": "JWT"}
    claims = {
        "iss": key["client_email"],
        "sub": key["client_email"],
        "aud": TOKEN_URL,
        "iat": issued,
        "exp": issued + LIFETIME,
        "scope": SCOPES,
    }
    return jwt.encode(claims, key["private_key"], algorithm="RS256", headers=headers)


def exchanged(assertion):
    body = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    answer = requests.post(TOKEN_URL, data=body, timeout=20)
    answer.raise_for_status()
    return answer.json()["access_token"]


def instances(token, project, zone):
    url = f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}/instances"
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    answer.raise_for_status()
    return answer.json()["items"]


if __name__ == "__main__":
    own_key = load(sys.argv[1])
    found = instances(exchanged(signed_jwt(own_key)), own_key["project_id"], "europe-west1-b")
    assert [instance["name"] for instance in found] == ["frontend-1", "backend-1"], found
