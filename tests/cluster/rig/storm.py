"""Pods created as fast as a few clients can, none of which ever runs: the scheduler is told to wait."""

import itertools
import threading
import time

from rig import pods
from rig.api import Refused

CLIENTS = 4
LIMIT = 120  # seconds, for anything awaited while it blows
UNREACHED = "failed calling webhook"


class Storm:
    """Creates pods from `with` to its end, each by one request; counts, and times each answer."""

    def __init__(self, world, namespace, prefix, labels=None, patient=False):
        self.world, self.namespace, self.prefix = world, namespace, prefix
        self.labels, self.patient = labels, patient
        self.numbers = itertools.count()
        self.stop = threading.Event()
        self.times, self.failures, self.retries, self.bare = [], [], 0, 0
        self.lock = threading.Lock()
        self.clients = [threading.Thread(target=self.create) for _ in range(CLIENTS)]
        self.began = time.monotonic()
        self.took = 0

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for client in self.clients:
            client.join(LIMIT)
        self.took = time.monotonic() - self.began

    def create(self):
        while not self.stop.is_set():
            name = f"{self.prefix}-{next(self.numbers)}"
            own = pods.spec(schedulingGates=[{"name": "bearerd.dev/never"}])
            self.one(pods.pod(name, own, labels=self.labels))

    def one(self, pod):
        while True:
            began = time.monotonic()
            try:
                made = self.world.api.create("pods", self.namespace, pod)
            except (Refused, OSError) as error:
                with self.lock:
                    if not (self.patient and UNREACHED in str(error)):
                        self.failures.append(str(error))
                        return
                    self.retries += 1
                continue
            with self.lock:
                self.times.append(time.monotonic() - began)
                first = made["spec"].get("initContainers", [{"name": ""}])[0]["name"]
                self.bare += first != "bearerd"
            return

    def made(self):
        return len(self.times)

    def figures(self):
        ordered = sorted(self.times)
        at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000  # noqa: E731
        rate = len(ordered) / self.took
        return f"{len(ordered)} pods, {rate:.0f}/s, create p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms"
