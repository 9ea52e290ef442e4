"""requests alone, without any credential and without any Google library."""

import requests

with requests.Session() as session:
    for _ in range(2):
        answer = session.get("https://storage.googleapis.com/storage/v1/b/cells", timeout=20)
        answer.raise_for_status()
        assert answer.json()["name"] == "cells", answer.text
