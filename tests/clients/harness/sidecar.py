"""The release binary as a user starts it: a config file, `run`, `ready`, `env`, and SIGTERM at the end."""

import json
import os
import pathlib
import socket
import subprocess

from harness import google

LIMIT = 30  # seconds, for any one command


def free_ports(count):
    """Ports that were free a moment ago, all held at once so that they differ."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Sidecar:
    """A running `bearerd`, and the environment it gives to programs."""

    kind = "bearerd"

    def __init__(self, binary, folder, servers, key_file):
        self.binary, self.folder = pathlib.Path(binary), folder
        if not self.binary.exists():
            raise RuntimeError(f"no bearerd at {binary}: build it with `cargo build --release`, or set BEARERD")
        self.config = folder / "bearerd.yaml"
        self.config.write_text(self.settings(servers, key_file))
        self.output = folder / "bearerd.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [self.binary, "run", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.plain_environment(),
            )
        try:
            self.command("ready", "--wait", "10s")
            self.environment = json.loads(self.command("env", "--format", "json"))
        except BaseException:
            self.process.kill()
            raise

    def settings(self, servers, key_file):
        proxy, metadata, tokens, health, control = free_ports(5)
        self.proxy = f"http://127.0.0.1:{proxy}"
        self.health, self.control = f"http://127.0.0.1:{health}", f"http://127.0.0.1:{control}"
        self.tokens = f"http://127.0.0.1:{tokens}"
        self.token_file = self.folder / "token-file"
        # JSON is YAML.
        return json.dumps(
            {
                "credentials": [
                    {
                        "name": "default",
                        "serviceAccountKey": {
                            "path": str(key_file),
                            "scopes": ["cloud-platform"],
                            "signBlob": "signedUrl",
                        },
                    },
                    *self.signers(),
                ],
                "tokens": self.handed_out(),
                "listeners": {
                    "proxy": f"127.0.0.1:{proxy}",
                    "metadata": f"127.0.0.1:{metadata}",
                    "health": f"127.0.0.1:{health}",
                    "control": f"127.0.0.1:{control}",
                    "transparent": "off",
                    "tokenApi": f"127.0.0.1:{tokens}",
                },
                "trust": {"public": str(self.folder / "trust"), "private": str(self.folder / "private")},
                "upstream": {
                    "extraRoots": servers.ca,
                    "connectTo": {f"{name}:443": servers.tls for name in (google.GOOGLE, google.UNROUTED)},
                },
            },
            indent=2,
        )

    def signers(self):
        """A driver's key, as of another account's role, and a device's."""
        keys = self.folder / "keys"
        device = {"path": str(keys / "device.pem"), "preset": "iotDevice", "audience": "my-project", "lifetime": "10m"}
        return [
            {"name": "drivers", "signedJwt": {"path": str(keys / "driver.json"), "preset": "fleetEngineDriver"}},
            {"name": "device", "signedJwt": device},
        ]

    def handed_out(self):
        times = {"creationTimestamp": "issuedAtMs", "expirationTimestamp": "expiresAtMs"}
        driver = {"path": "/token/driver/{vehicleId}", "json": {"jwt": "token"} | times}
        return [
            {"name": "driver", "credential": "drivers", "token": "jwt"} | driver,
            {"name": "device", "credential": "device", "token": "jwt", "file": {"path": str(self.token_file)}},
        ]

    def plain_environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def command(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments, "--config", self.config],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=self.plain_environment(),
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"bearerd {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
                f"--- bearerd run said:\n{self.output.read_text(errors='replace')[-4000:]}"
            )
        return done.stdout

    def pages(self):
        """What it says of itself, by name."""
        return {
            "metrics": f"{self.health}/metrics",
            "status": f"{self.control}/status.json",
            "readyz": f"{self.health}/readyz",
        }

    def stop(self):
        """Ends it as a kubelet does; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        self.process.kill()
        self.process.wait()
