"""A V4 signed URL, read and verified by the letter of Google's documentation: nothing here is bearerd's."""

import hashlib
import pathlib
import re
import subprocess
import tempfile
import urllib.parse


def verify(text, key):
    """Finds the URL in a program's output and verifies its signature; raises ValueError with the reason."""
    found = re.search(r"https://\S+X-Goog-Signature=\S+", text)
    if found is None:
        raise ValueError(f"no signed URL in {text[-500:]!r}")
    url = urllib.parse.urlsplit(found.group(0))
    query = dict(urllib.parse.parse_qsl(url.query, strict_parsing=True))
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    account, _, scope = query["X-Goog-Credential"].partition("/")
    if account != key.email:
        raise ValueError(f"signed for {account}, not for {key.email}")
    if query["X-Goog-SignedHeaders"] != "host":
        raise ValueError(f"signed headers: {query['X-Goog-SignedHeaders']}")
    quoted = "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in sorted(query.items()))
    request = "\n".join(["GET", url.path, quoted, f"host:{url.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(request.encode()).hexdigest()
    signed = "\n".join([query["X-Goog-Algorithm"], query["X-Goog-Date"], scope, digest])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "signature").write_bytes(signature)
        (folder / "public.pem").write_text(key.public)
        command = ["openssl", "dgst", "-sha256", "-verify", folder / "public.pem", "-signature", folder / "signature"]
        done = subprocess.run(command, input=signed.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"the signature does not verify {signed!r}: {done.stdout!r}")
