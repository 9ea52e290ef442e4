"""manual_jwt.py with the key, the signing and the exchange taken out."""

import requests


def instances(project, zone):
    url = f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}/instances"
    answer = requests.get(url, timeout=20)
    answer.raise_for_status()
    return answer.json()["items"]


if __name__ == "__main__":
    found = instances("cells-project", "europe-west1-b")
    assert [instance["name"] for instance in found] == ["frontend-1", "backend-1"], found
