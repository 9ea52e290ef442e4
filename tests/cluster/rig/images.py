"""Images for containerd without any builder: an OCI archive that holds one static binary and nothing else.

The product's own image is not made here but by tests/image/make, from its Dockerfile.
"""

import hashlib
import io
import json
import pathlib
import tarfile

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def archive(files):
    """A tar of (name, content, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write(out, name, binary):
    """Writes the archive `out` of an image `name` that starts `binary`, found at its root."""
    write_files(out, name, {binary.name: binary}, [f"/{binary.name}"])


def write_files(out, name, files, entrypoint, user="65532:65532"):
    """The same of several files, given by their place in the image."""
    blobs = []

    def blob(kind, content, **more):
        digest = hashlib.sha256(content).hexdigest()
        blobs.append((f"blobs/sha256/{digest}", content, 0o644))
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content), **more}

    def blob_json(kind, value, **more):
        return blob(kind, json.dumps(value).encode(), **more)

    held = [(place, pathlib.Path(path).read_bytes(), 0o755) for place, path in files.items()]
    layer = blob(LAYER, archive(held))
    started = {"Entrypoint": entrypoint, "Env": ["PATH=/bin"], "User": user, "WorkingDir": "/"}
    layers = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = blob_json(CONFIG, {"architecture": "amd64", "os": "linux", "config": started, "rootfs": layers})
    marks = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    index = {"schemaVersion": 2, "manifests": [blob_json(MANIFEST, manifest, annotations=marks)]}
    top = [
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644),
        ("index.json", json.dumps(index).encode(), 0o644),
    ]
    out.write_bytes(archive(top + blobs))
