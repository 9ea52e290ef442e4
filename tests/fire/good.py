"""A good client in a process of its own: one intercepted connection, a request every few milliseconds, each timed.

    good.py PORT CA SECONDS        prints how many there were, their failures and their 50th and 99th percentile as JSON

Apart from the cells, whose thousands of clients would take its turns.
"""

import json
import socket
import ssl
import sys
import time

HOST = "storage.googleapis.com"
REQUEST = f"GET /storage/v1/b/cells HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
PAUSE = 0.005


def main():
    port, authority, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
        if b" 200" not in plain.recv(4096).split(b"\r\n")[0]:
            raise OSError("no tunnel")
        with ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname=HOST) as tls:
            took, failures = ask(tls, seconds)
    took.sort()
    of = {f"p{share}": round(took[len(took) * share // 100] * 1000, 2) for share in (50, 99)}
    print(json.dumps({"requests": len(took), "failures": failures} | of))


def ask(tls, seconds):
    answers, took, failures = tls.makefile("rb"), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        tls.sendall(REQUEST)
        failures += answer(answers)[0] != 200
        took.append(time.monotonic() - began)
        time.sleep(PAUSE)
    return took, failures


def answer(answers):
    """Its status, and whether it is the connection's last; the body is read to its end, where the next one begins."""
    status, length, is_last = int(answers.readline().split()[1]), 0, False
    while (line := answers.readline().strip().lower()) != b"":
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        is_last |= line == b"connection: close"
    if len(answers.read(length)) != length:
        raise OSError("an answer that broke off")
    return status, is_last


if __name__ == "__main__":
    main()
