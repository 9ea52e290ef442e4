"""The certificate rules that Python has by default since 3.13: strict mode, chains in full."""

import http.client
import os
import ssl
import urllib.parse

proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
context = ssl.create_default_context()  # reads SSL_CERT_FILE
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=context, timeout=20)
connection.set_tunnel("storage.googleapis.com", 443)
connection.request("GET", "/storage/v1/b/cells")
answer = connection.getresponse()
assert answer.status == 200, (answer.status, answer.read())
