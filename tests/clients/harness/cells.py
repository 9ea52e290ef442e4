"""The table of cells: which program, and what the servers must have seen of it. `run` plays them in this order."""

import json
import shlex

from harness import signed
from harness.install import HERE
from harness.stage import Cell, Seen

STORAGE = "https://storage.googleapis.com"
BUCKET = f"{STORAGE}/storage/v1/b/cells"
FOREIGN = "Authorization: Bearer ya29.c.a-token-of-somebody-else"
EXCHANGE = "^/oauth2/v4/token$"


def curl(name, arguments, seen=(Seen("storage"),), prints=" 200$", environment=None):
    """curl knows no credentials at all, so none of its cells can do without bearerd."""
    report = "--output /dev/null --write-out '%{http_version} %{http_code}'"
    command = shlex.split(f"curl --silent --show-error --max-time 20 {report} {arguments}")
    return Cell(f"curl {name}", tuple(command), seen, environment or {}, prints, direct=False)


def curl_cells(sidecar):
    forward = BUCKET.replace("https:", "http:")
    twice = f"{BUCKET} --output /dev/null {BUCKET} --write-out '%{{num_connects}} %{{http_code}}\\n'"
    minting = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken"
    return [
        curl("intercept h1", f"--http1.1 {BUCKET}", prints="^1.1 200$"),
        curl("intercept h2", f"--http2 {BUCKET}", prints="^2 200$"),
        curl("two on one connection", twice, (Seen("storage", 2),), "^1 200\n0 200$"),
        curl("forward http://", forward, environment={"http_proxy": sidecar.proxy}),
        curl("own Authorization replaced", f"-H '{FOREIGN}' {BUCKET}"),
        curl("tunnel to a host without a route", "https://plain.example.com/", (Seen("plain"),)),
        curl("minting API denied", f"-X POST {minting}", (), " 403$"),
    ]


def curl_object_cells(folder):
    body = folder / "body"
    body.write_bytes(bytes(range(256)) * (8 * 4096))  # 8 MiB: more than any window or buffer on the way
    url = f"{STORAGE}/upload/storage/v1/b/cells/o?uploadType=media&name=curl%2Flarge"
    upload = f"--data-binary @{body} -H 'Content-Type: application/octet-stream' '{url}'"
    posted = (Seen("storage", method="POST", upload="media"),)
    download = f"curl --silent --show-error --max-time 20 '{BUCKET}/o/curl%2Flarge?alt=media' | cmp - {body}"
    target = (Seen("storage", path="/o/curl%2Flarge$"),)
    in_name = "https://cells.storage.googleapis.com/curl/large"
    return [
        curl("upload h1 expect-continue", f"--http1.1 -H 'Expect: 100-continue' {upload}", posted, "^1.1 200$"),
        curl("upload h1 chunked", f"--http1.1 -H 'Transfer-Encoding: chunked' {upload}", posted, "^1.1 200$"),
        curl("upload h2", f"--http2 {upload}", posted, "^2 200$"),
        Cell("curl download, target byte for byte", ("sh", "-c", download), target, direct=False),
        curl("XML API", f"{STORAGE}/cells/curl/large", (Seen("storage", path="^/cells/curl/large$"),)),
        curl("XML API, bucket in the name", in_name, (Seen("storage", path="^/curl/large$"),)),
    ]


def metadata_cells(sidecar):
    host = sidecar.environment.get("GCE_METADATA_HOST", "")
    token = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    asked = ("curl", "--silent", "--show-error", "--fail", "-H", "Metadata-Flavor: Google", token)
    placeholder = '"access_token": ?"ya29.bearerd-placeholder-'
    return [
        curl("metadata without its header refused", token, (), " 403$"),
        Cell("curl metadata gives a placeholder", asked, prints=placeholder, direct=False),
    ]


def storage_cells(name, command, environment=None):
    """The same four steps for each storage SDK."""
    steps = {
        "upload": (Seen("storage", method="POST", upload="multipart"),),
        "download": (Seen("storage", method="GET"),),
        "resumable": (
            Seen("storage", method="POST", upload="resumable"),
            Seen("storage", 2, method="PUT"),
            Seen("storage", method="GET"),
        ),
        "list": (Seen("storage", path="/b/cells/o$"), Seen("storage", path="/b/?$")),
    }
    # The SDKs may look at bucket or object first: those requests must carry the token like the others.
    also = (Seen("storage", least=0),)
    return [Cell(f"{name} {step}", (*command, step), seen + also, environment or {}) for step, seen in steps.items()]


def pubsub_cells(name, command, steps=("publish", "stream"), environment=None):
    rpcs = {
        "publish": ("Publisher/CreateTopic", "Subscriber/CreateSubscription", "Publisher/Publish"),
        "stream": ("Subscriber/StreamingPull",),
    }
    also = (Seen("pubsub", least=0),)
    return [
        Cell(
            f"{name} {kind}",
            (*command, step),
            tuple(Seen("pubsub", path=f"{rpc}$") for rpc in rpcs[kind]) + also,
            environment or {},
        )
        for kind, step in zip(rpcs, steps)
    ]


def python_cells(python, own_key_file, direct):
    def program(name):
        return (python, HERE / "python" / name)

    # Through bearerd the program's own exchange passes untouched, and its request then gets our token.
    instances = Seen("compute", path="/instances$", key="B") if direct else Seen("compute", path="/instances$")
    return [
        *storage_cells("python-storage", program("storage.py")),
        *pubsub_cells("python-pubsub", program("pubsub.py")),
        Cell("python-requests without credentials", program("plain_requests.py"), (Seen("storage", 2),), direct=False),
        Cell("python strict X.509", program("strict_tls.py"), (Seen("storage"),), direct=False),
        Cell(
            "manual JWT with its own key",
            (*program("manual_jwt.py"), own_key_file),
            (Seen("token", path=EXCHANGE, key="B"), instances),
        ),
        Cell(
            "manual JWT without key or exchange",
            program("manual_without_exchange.py"),
            (Seen("compute", path="/instances$"),),
            direct=False,
        ),
    ]


def node_cells(modules):
    environment = {"NODE_PATH": str(modules)}
    return [
        *storage_cells("node-storage", ("node", HERE / "node" / "storage.js"), environment),
        *pubsub_cells("node-pubsub", ("node", HERE / "node" / "pubsub.js"), environment=environment),
    ]


def go_cells(binary):
    storage = (
        Seen("storage", path="^/upload/"),
        Seen("storage", path="^/cells/go"),
        Seen("storage", path="/b/cells/o$"),
    )
    bigtable = ("BigtableTableAdmin/CreateTable", "Bigtable/MutateRows", "Bigtable/ReadRows")
    return [
        *pubsub_cells("go-pubsub", (binary,), ("pubsub-publish", "pubsub-stream")),
        Cell("go-storage", (binary, "storage"), (*storage, Seen("storage", least=0))),
        Cell(
            "go-bigtable",
            (binary, "bigtable"),
            (*(Seen("bigtable", path=f"{rpc}$") for rpc in bigtable), Seen("bigtable", least=0)),
        ),
    ]


def signing_cells(tools, key):
    """URLs signed without a key in the program, and without a request to Google that the servers could see."""
    programs = {
        "python-storage": ((tools["python"], HERE / "python" / "storage.py", "sign"), {}),
        "node-storage": (("node", HERE / "node" / "storage.js", "sign"), {"NODE_PATH": str(tools["node"])}),
        "go-storage": ((tools["go"][1], "sign"), {}),
    }
    return [
        Cell(
            f"{name} signed URL verifies",
            command,
            (Seen("storage", least=0),),
            environment,
            direct=False,
            check=lambda text: signed.verify(text, key),
        )
        for name, (command, environment) in programs.items()
    ]


def java_cells(class_path):
    return [Cell("java google-auth and HTTP", ("java", "-cp", class_path, "Cells"), (Seen("storage"),))]


def handed_out_cells(tools, told):
    """Tokens of the token API, in the eyes of three libraries, and of a backend that hands them on."""
    environment = {"TOLD": json.dumps(told)}
    fleet = (tools["python"], HERE / "python" / "fleet_backend.py")
    programs = {
        "PyJWT": (tools["python"], HERE / "python" / "handed_out.py"),
        "jose": ("node", HERE / "node" / "handed_out.js"),
        "Nimbus": ("java", "-cp", tools["java"], "HandedOut"),
    }
    modules = {"NODE_PATH": str(tools["node"])}
    return [
        *(
            Cell(f"token API verified by {name}", command, (), environment | modules, "verified$", direct=False)
            for name, command in programs.items()
        ),
        Cell(
            "token API behind a fleet's backend",
            fleet,
            (Seen("fleetengine", path="/vehicles/vehicle-1$"),),
            environment,
            "served$",
            direct=False,
        ),
    ]


def table(tools, folder, sidecar, made, told=None):
    direct = sidecar.kind != "bearerd"
    servers_and_go = tools["go"]
    return [
        *curl_cells(sidecar),
        *curl_object_cells(folder),
        *metadata_cells(sidecar),
        *python_cells(tools["python"], folder / "keys" / "b.json", direct),
        *node_cells(tools["node"]),
        *go_cells(servers_and_go[1]),
        *java_cells(tools["java"]),
        *signing_cells(tools, made["A"]),
        *(handed_out_cells(tools, told) if told else ()),
    ]
