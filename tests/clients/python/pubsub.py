"""google-cloud-pubsub over gRPC with default credentials: pubsub.py publish|stream."""

import sys
from concurrent.futures import Future

from google.cloud import pubsub_v1

PROJECT = "cells-project"
LIMIT = 20  # seconds; the answer comes in milliseconds


def publish():
    publisher = pubsub_v1.PublisherClient()
    topic = publisher.topic_path(PROJECT, "python")
    publisher.create_topic(name=topic)
    with pubsub_v1.SubscriberClient() as subscriber:
        name = subscriber.subscription_path(PROJECT, "python")
        subscriber.create_subscription(name=name, topic=topic)
    assert publisher.publish(topic, b"hello from Python").result(timeout=LIMIT)


def stream():
    got = Future()

    def receive(message):
        message.ack()
        if not got.done():
            got.set_result(message.data)

    with pubsub_v1.SubscriberClient() as subscriber:
        name = subscriber.subscription_path(PROJECT, "python")
        pull = subscriber.subscribe(name, callback=receive)
        assert got.result(timeout=LIMIT) == b"hello from Python"
        pull.cancel()
        pull.result(timeout=LIMIT)


{"publish": publish, "stream": stream}[sys.argv[1]]()
