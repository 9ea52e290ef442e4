"""A device on Paho that knows no credential: publishes at QoS 1, and hears what it says.

    device.py PORT DEVICE SECONDS VERSION kept|stock

A kept session is there after a reconnect, and nothing said to it is lost. With what Paho does unless told, it is a new
one each time: then whatever the device says must arrive all the same.
"""

import json
import sys
import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, device, seconds, version, session = sys.argv[1:]
topic = f"said/{device}"
counts = {"said": 0, "answered": 0, "heard": 0, "connects": 0}
heard = set()
ready = threading.Event()


def connected(client, *_):
    counts["connects"] += 1
    if not kept:
        client.subscribe(topic, qos=1)


def subscribed(*_):
    ready.set()


def published(*_):
    counts["answered"] += 1


def message(_client, _data, message):
    heard.add(int(message.payload))


five, kept = version == "5", session == "kept"
client = paho.Client(
    paho.CallbackAPIVersion.VERSION2,
    client_id=device,
    protocol=paho.MQTTv5 if five else paho.MQTTv311,
    **({"clean_session": False} if kept and not five else {}),
)
client.will_set(f"will/{device}", "lost", qos=1)
client.on_connect, client.on_subscribe, client.on_publish, client.on_message = connected, subscribed, published, message
more = {}
if kept and five:
    more = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
    more["properties"].SessionExpiryInterval = 600
client.connect("127.0.0.1", int(port), **more)
client.loop_start()
while not client.is_connected():
    time.sleep(0.01)
if kept:
    client.subscribe(topic, qos=1)
if not ready.wait(20):
    sys.exit("no SUBACK")
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    client.publish(topic, str(counts["said"]), qos=1)
    counts["said"] += 1
    time.sleep(0.04)
while counts["answered"] < counts["said"] or kept and len(heard) < counts["said"]:
    time.sleep(0.05)
client.disconnect()
client.loop_stop()
print(json.dumps(counts | {"heard": len(heard)}))
