"""Waiting on conditions: nothing here sleeps for a time that somebody guessed."""

import time

STEP = 0.1  # seconds between two looks


class Red(Exception):
    """What a cell expected did not come true; the text says what was there instead."""


def until(what, look, limit=60, step=STEP):
    """Looks again until `look` returns something true, and returns that. `look` may raise `NotYet` to say why not."""
    end = time.monotonic() + limit
    why = ""
    while True:
        try:
            found = look()
            why = ""
        except NotYet as reason:
            found, why = None, f": {reason}"
        if found:
            return found
        if time.monotonic() > end:
            raise Red(f"after {limit} s still no {what}{why}")
        time.sleep(step)


class NotYet(Exception):
    """Why a look did not find what is awaited."""
