"""One TLS handshake per line of standard input (name, host, port), with the roots of SSL_CERT_FILE."""

import socket
import ssl
import sys

context = ssl.create_default_context()
# The default since Python 3.13.
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

for line in sys.stdin:
    name, host, port = line.rstrip("\n").split("\t")
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                print(name, "accepted", "", sep="\t")
    except ssl.SSLError as error:
        print(name, "refused", error, sep="\t")
    except OSError as error:
        print(name, "failed", error, sep="\t")
