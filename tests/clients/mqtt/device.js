// A device on mqtt.js that knows no credential: publishes at QoS 1, and hears what it says.
//
//     node device.js PORT DEVICE SECONDS VERSION kept|stock
//
// A kept session is there after a reconnect, and nothing said to it is lost. With what mqtt.js does unless told, it is a
// new one each time: then whatever the device says must arrive all the same.
"use strict";
const mqtt = require("mqtt");

const [port, device, seconds, version, session] = process.argv.slice(2);
const kept = session === "kept";
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  clientId: device,
  protocolVersion: Number(version),
  ...(kept ? { clean: false } : {}),
  ...(kept && version === "5" ? { properties: { sessionExpiryInterval: 600 } } : {}),
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
    } else if (answered === said && (!kept || heard.size === said)) {
      clearInterval(timer);
      client.end(false, () => console.log(JSON.stringify({ said, answered, heard: heard.size, connects })));
    }
  }, 40);
});
