"""What `run --direct` puts in the sidecar's place: a bare CONNECT tunnel and a metadata server with a real token.

It tells whether a red cell is the fault of an SDK or a server here, or of bearerd. Nothing of bearerd is in it.
"""

import asyncio
import json
import subprocess
import threading
import urllib.parse

LIMIT = 10  # seconds, for the loop to start
HEAD = 65536


class Standin:
    """Tunnels every CONNECT to the servers; answers metadata requests with `token`, once it is set."""

    kind = "standin"

    def __init__(self, folder, servers, account):
        self.servers, self.token, self.account = servers, None, account
        self.ports = {}
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True).start()
        if not started.wait(LIMIT):
            raise RuntimeError("the stand-in did not start")
        self.proxy = f"http://127.0.0.1:{self.ports['proxy']}"
        self.environment = self.variables(folder)

    async def serve(self, started):
        for name, door in (("proxy", self.tunnel), ("metadata", self.metadata)):
            listener = await asyncio.start_server(door, "127.0.0.1", 0, limit=HEAD)
            self.ports[name] = listener.sockets[0].getsockname()[1]
        started.set()
        await asyncio.Event().wait()

    async def tunnel(self, reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            host, port = self.servers.tls.split(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(self.copy(reader, up_writer), self.copy(up_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    @staticmethod
    async def copy(reader, writer):
        while chunk := await reader.read(HEAD):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def metadata(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        answer = self.answer(urllib.parse.urlsplit(head.split(" ")[1]))
        status, kind, body = ("404 Not Found", "text/plain", "") if answer is None else ("200 OK", *answer)
        writer.write(
            f"HTTP/1.1 {status}\r\nMetadata-Flavor: Google\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        writer.close()

    def answer(self, target):
        # A client that was told the account's e-mail may ask by it.
        path = target.path.removeprefix("/computeMetadata/v1").strip("/").replace(f"/{self.account}", "/default")
        account = {
            "email": self.account,
            "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            "aliases": ["default"],
        }
        token = {"access_token": self.token, "expires_in": 3000, "token_type": "Bearer"}
        return {
            "": ("text/plain", "ok"),
            "instance": ("application/text", "id"),
            "project/project-id": ("application/text", "cells-project"),
            "universe/universe-domain": ("application/text", "googleapis.com"),
            "instance/service-accounts/default": ("application/json", json.dumps(account)),
            "instance/service-accounts/default/email": ("application/text", self.account),
            "instance/service-accounts/default/token": ("application/json", json.dumps(token)),
        }.get(path)

    def variables(self, folder):
        store, ca, port = folder / "standin.p12", self.servers.ca, self.ports["proxy"]
        subprocess.run(
            [
                "keytool",
                "-importcert",
                "-noprompt",
                "-alias",
                "ca",
                "-file",
                ca,
                "-keystore",
                store,
                "-storetype",
                "PKCS12",
                "-storepass",
                "changeit",
            ],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        variables = {
            "METADATA_SERVER_DETECTION": "assume-present",
            "GOOGLE_CLOUD_PROJECT": "cells-project",
            "NODE_EXTRA_CA_CERTS": ca,
        }
        for name in ("HTTPS_PROXY", "https_proxy", "grpc_proxy"):
            variables[name] = self.proxy
        for name in ("NO_PROXY", "no_proxy"):
            variables[name] = "localhost,127.0.0.1"
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
            variables[name] = ca
        for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"):
            variables[name] = f"127.0.0.1:{self.ports['metadata']}"
        variables["JAVA_TOOL_OPTIONS"] = (
            f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port} -Djavax.net.ssl.trustStore={store} "
            "-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=PKCS12"
        )
        return variables

    def stop(self):
        return 0

    def kill(self):
        pass
