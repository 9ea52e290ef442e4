// One TLS handshake per line of standard input (name, host, port), with the roots of NODE_EXTRA_CA_CERTS.
import { createInterface } from "node:readline";
import { isIP } from "node:net";
import tls from "node:tls";

function attempt(host, port) {
  return new Promise((resolve) => {
    const socket = tls.connect({
      host: "127.0.0.1",
      port: Number(port),
      // SNI carries no addresses; who the peer must be is said below all the same.
      servername: isIP(host) ? "" : host,
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(host, certificate),
      timeout: 10_000,
    });
    socket.on("secureConnect", () => resolve("accepted\t"));
    socket.on("timeout", () => resolve("failed\ttimeout"));
    socket.on("error", (error) => resolve(`refused\t${error.code ?? ""} ${error.message}`));
    socket.on("secureConnect", () => socket.destroy());
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const [name, host, port] = line.split("\t");
  console.log(`${name}\t${(await attempt(host, port)).replaceAll("\n", " ")}`);
}
