"""google-cloud-storage with default credentials: storage.py upload|download|resumable|list|sign."""

import sys

import google.auth
import google.auth.transport.requests
from google.auth import compute_engine
from google.cloud import storage

SMALL = b"a small object\n" * 100
CHUNK = 256 * 1024  # the least that a resumable upload allows
LARGE = bytes(range(256)) * (4 * CHUNK // 256) + b"and a last chunk that is not full"


def main(step):
    credentials, project = google.auth.default()
    assert isinstance(credentials, compute_engine.Credentials), type(credentials)
    assert project == "cells-project", project
    client = storage.Client()
    bucket = client.bucket("cells")
    if step == "upload":
        bucket.blob("python/small").upload_from_string(SMALL)
    elif step == "download":
        assert bucket.blob("python/small").download_as_bytes() == SMALL
    elif step == "resumable":
        blob = bucket.blob("python/large", chunk_size=CHUNK)
        with blob.open("wb") as writer:
            writer.write(LARGE)
        assert bucket.blob("python/large").download_as_bytes() == LARGE
    elif step == "list":
        names = [blob.name for blob in client.list_blobs("cells", prefix="python/")]
        assert names == ["python/large", "python/small"], names
        assert "cells" in [bucket.name for bucket in client.list_buckets()]
    elif step == "sign":
        credentials.refresh(google.auth.transport.requests.Request())
        signer = {"service_account_email": credentials.service_account_email, "access_token": credentials.token}
        print(bucket.blob("python/small").generate_signed_url(version="v4", expiration=600, **signer))
    else:
        sys.exit(f"no such step: {step}")


main(*sys.argv[1:])
