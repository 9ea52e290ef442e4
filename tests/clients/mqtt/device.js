// A device on mqtt.js that knows no credential: publishes at QoS 1, and hears what it says.
//
//     node device.js PORT DEVICE SECONDS VERSION
"use strict";
const mqtt = require("mqtt");

const [port, device, seconds, version] = process.argv.slice(2);
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  clientId: device,
  clean: false,
  protocolVersion: Number(version),
  properties: version === "5" ? { sessionExpiryInterval: 600 } : undefined,
  will: { topic: `will/${device}`, payload: "lost", qos: 1 },
});
const topic = `said/${device}`;
const end = Date.now() + Number(seconds) * 1000;
const heard = new Set();
let [said, answered, connects] = [0, 0, 0];

client.on("connect", () => {
  connects += 1;
});
client.on("error", (error) => console.error(String(error)));
client.on("message", (_, payload) => heard.add(Number(payload)));
client.subscribe(topic, { qos: 1 }, () => {
  const timer = setInterval(() => {
    if (Date.now() < end) {
      const number = said++;
      client.publish(topic, String(number), { qos: 1 }, (error) => {
        if (error) throw error;
        answered += 1;
      });
    } else if (answered === said && heard.size === said) {
      clearInterval(timer);
      client.end(false, () => console.log(JSON.stringify({ said, answered, heard: heard.size, connects })));
    }
  }, 40);
});
