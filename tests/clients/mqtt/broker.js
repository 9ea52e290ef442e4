// A broker as IoT services run one: aedes over TLS, which speaks MQTT 3.1.1. The password must be a JWT that jose verifies
// (signature, audience, end), and the connection is dropped when it ends. What happens is a line of JSON each.
//
//     node broker.js CERTIFICATE KEY PUBLIC_KEY AUDIENCE
"use strict";
const fs = require("node:fs");
const tls = require("node:tls");
const { Aedes } = require("aedes");
const jose = require("jose");

const [certificate, key, publicKey, audience] = process.argv.slice(2);
const tell = (line) => fs.writeSync(1, JSON.stringify(line) + "\n");

async function main() {
  const verifier = await jose.importSPKI(fs.readFileSync(publicKey, "utf8"), "ES256");
  const broker = await Aedes.createBroker({ heartbeatInterval: 60_000 });
  broker.authenticate = (client, username, password, done) => {
    jose.jwtVerify(String(password), verifier, { audience, algorithms: ["ES256"] }).then(
      ({ payload }) => {
        const timer = setTimeout(() => {
          tell({ event: "expired", device: client.id });
          client.conn.destroy();
        }, payload.exp * 1000 - Date.now());
        client.conn.once("close", () => clearTimeout(timer));
        tell({ event: "login", device: client.id, username, exp: payload.exp, version: client.version });
        done(null, true);
      },
      (error) => {
        tell({ event: "refused", device: client.id, why: error.code ?? String(error) });
        done(Object.assign(new Error("refused"), { returnCode: 4 }), false);
      },
    );
  };
  broker.on("publish", (packet, client) => {
    if (packet.topic.startsWith("will/")) {
      tell({ event: "will", device: packet.topic.slice(5) });
    } else if (client) {
      tell({ event: "publish", device: client.id, number: Number(packet.payload), qos: packet.qos });
    }
  });
  broker.on("clientDisconnect", (client) => tell({ event: "gone", device: client.id }));
  const options = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key), minVersion: "TLSv1.2" };
  const server = tls.createServer(options, (stream) => broker.handle(stream));
  server.listen(0, "127.0.0.1", () => tell({ event: "listening", port: server.address().port }));
}

main();
