"""The cells: what the server must grant, and what it must refuse, each put right afterwards. `run` plays them."""

import json
import re
import subprocess

from harness import keys
from stage import POOL, WORKLOAD, Red, page, replace, until

STORAGE, PUBSUB = "storage.googleapis.com", "pubsub.googleapis.com"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
# What each says of a signature by another key.
SIGNATURE = {"zitadel": "invalid signature", "fosite": "verify the integrity"}
ELSEWHERE = "https://login.example.com/token"


class Play:
    """One server and one sidecar. Each cell returns what to print, or raises Red."""

    def __init__(self, server, sidecar, library):
        self.server, self.sidecar, self.library = server, sidecar, library
        self.first, self.second = (keys.make(name, "app") for name in ("first", "second"))
        self.account = self.first.email

    def prepare(self):
        """Starts the sidecar with a key that the server knows, and a subject token that it takes."""
        self.first.write(self.sidecar.key)
        self.server.register(self.first)
        if self.sidecar.federated:
            self.sidecar.identify()
            replace(self.sidecar.subject, self.server.subject_token())
        self.sidecar.start()
        # It listens before it has a token. The cells count exchanges from where they begin, and have others asked for by
        # changes of the configuration, of which two in a row would put back what was there.
        until("the first exchange", self.server.exchanges)

    def served(self, name, host, whose):
        """The credential has a token, and the API behind it was told by the server whose it is."""
        until(f"a token of {name}", lambda: self.sidecar.credential(name)["state"] == "valid")
        status, told = self.sidecar.asked(host)
        if (status, told) != (200, whose):
            raise Red(f"the API answered {status}: {told}")

    def refused(self, since, name, code, words):
        """The server refused for the reason meant, and its own code is in the status, in `check` and in the log.

        Returns what bearerd says. Only the code is looked for in that: it tells the first words of the server's, and
        fosite's begin with a long sentence that is always the same.
        """
        last = until("a refusal", lambda: [line for line in self.server.exchanges(since) if line["status"] != 200])[-1]
        if last["error"] != code or words not in last["words"]:
            raise Red(f"the server refused for another reason: {last}")
        message = until(f"`{code}` in the status of {name}", lambda: self.said(name, code))
        self.checked(name, code)
        return message

    def said(self, name, code):
        """What the status says of it: why there is no token, or why what lies there is not in use."""
        told = self.sidecar.credential(name)
        messages = [error["message"] for error in (told["lastError"], *told["restingKeys"]) if error]
        return next((message for message in messages if code in message), None)

    def checked(self, name, code):
        """`check` says it too, and so does the log."""
        exit_status, line = self.sidecar.checked(name)
        if exit_status != 1 or code not in line:
            raise Red(f"check, exit status {exit_status}, does not say {code}: {line}")
        if code not in self.sidecar.output.read_text(errors="replace"):
            raise Red(f"the log does not say {code}")
        return line

    def granted(self, since, grant, kind=""):
        """The last exchange that the server saw."""
        last = self.server.exchanges(since)[-1]
        if (last["grant"], last["status"]) != (grant, 200) or not last.get("kind", "").endswith(kind):
            raise Red(f"the server saw {last}")

    def mark(self):
        return len(self.server.ask("log", 0))

    # The jwt-bearer grant.

    def without_subject(self):
        """Google's assertions have no `sub` unless they are for somebody else; RFC 7523 3 (2) wants one."""
        message = self.refused(0, "default", "invalid_grant", "sub")
        # Ten seconds at most: a request waits for a token that may come.
        status, body = self.sidecar.asked(STORAGE)
        if status != 503 or "invalid_grant" not in body:
            raise Red(f"without a token a request was answered {status}: {body}")
        self.sidecar.account = self.account
        self.sidecar.configure()
        self.served("default", STORAGE, self.account)
        return message

    def googles_form(self):
        """The same assertion as at Google, where the server reads it as Google does."""
        self.server.ask("alone", True)
        self.sidecar.account = ""
        told = self.jwt_bearer()
        self.server.ask("alone", False)
        self.sidecar.account = self.account
        self.jwt_bearer()
        return told

    def jwt_bearer(self):
        since = self.mark()
        self.sidecar.renew()
        until("an exchange", lambda: self.server.exchanges(since))
        self.served("default", STORAGE, self.account)
        self.granted(since, JWT_BEARER)
        return f"a token of {self.account}"

    def unregistered(self):
        """A new key that the server does not know: the old one's token serves until it does."""
        self.second.write(self.sidecar.key)
        refusal = f'key_id={self.second.key_id} reason='
        until("the refusal in the log", lambda: refusal in self.sidecar.output.read_text(errors="replace"))
        message = self.checked("default", "invalid_grant")
        told = self.sidecar.credential("default")
        if told["keyId"] != self.first.key_id:
            raise Red("a key was taken into use that the server refused")
        if [(key["keyId"], "invalid_grant" in key["message"]) for key in told["restingKeys"]] != [(self.second.key_id, True)]:
            raise Red(f"the status does not say why the new key is not in use: {told}")
        if self.sidecar.asked(STORAGE) != (200, self.account):
            raise Red("the token of the old key did not serve")
        self.server.register(self.second)
        until("the new key in use", lambda: self.sidecar.credential("default")["keyId"] == self.second.key_id)
        self.server.register(self.first, "")
        self.served("default", STORAGE, self.account)
        return message

    def replaced(self):
        """Another public key under the id of ours."""
        since = self.mark()
        self.server.register(self.second, self.first.public)
        self.sidecar.renew()
        message = self.refused(since, "default", "invalid_grant", SIGNATURE[self.library])
        self.server.register(self.second)
        self.served("default", STORAGE, self.account)
        return message

    def audience(self):
        since = self.mark()
        self.server.ask("audience", ELSEWHERE)
        self.sidecar.renew()
        message = self.refused(since, "default", "invalid_grant", ELSEWHERE)
        self.server.ask("audience", "https://oauth2.googleapis.com/token")
        self.served("default", STORAGE, self.account)
        return message

    def clock(self, seconds, words):
        """Nobody puts the clocks right: a sidecar that has just started learns from the `Date` of the refusal."""
        self.sidecar.end()
        since = self.mark()
        self.server.ask("ahead", seconds)
        self.sidecar.start()
        message = self.refused(since, "default", "invalid_grant", words)
        self.served("default", STORAGE, self.account)
        return message

    # The exchange of tokens.

    def exchange(self, kind="jwt"):
        since = self.mark()
        self.sidecar.renew()
        until("an exchange", lambda: self.server.exchanges(since))
        self.served("federated", PUBSUB, WORKLOAD)
        self.granted(since, EXCHANGE, f":{kind}")
        return f"a token of {WORKLOAD}"

    def bad_subject(self, **wish):
        since = self.mark()
        replace(self.sidecar.subject, self.server.subject_token(**wish))
        self.sidecar.renew()
        message = self.refused(since, "federated", "invalid_request", "subject_token is invalid")
        replace(self.sidecar.subject, self.server.subject_token())
        self.served("federated", PUBSUB, WORKLOAD)
        return message

    def unknown_provider(self):
        """The last good identity serves until the new one is taken."""
        since = self.mark()
        self.sidecar.identify(provider="another")
        self.sidecar.renew()
        message = self.refused(since, "federated", "invalid_target", "audience")
        self.served("federated", PUBSUB, WORKLOAD)
        self.sidecar.identify()
        self.served("federated", PUBSUB, WORKLOAD)
        return message

    def own_id_token(self):
        """A token that the server itself has issued, and of another type."""
        replace(self.sidecar.subject, self.id_token())
        self.sidecar.identify(kind="id_token")
        return self.exchange("id_token")

    def id_token(self):
        """By curl, since bearerd asks for access tokens only."""
        form = {"grant_type": EXCHANGE, "audience": f"{POOL}cluster", "scope": "openid",
                "requested_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "subject_token": self.server.subject_token()}
        command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", self.server.ca,
                   "--connect-to", f"::{self.server.tls}", "https://sts.googleapis.com/v1/token"]
        for name, value in form.items():
            command += ["--data-urlencode", f"{name}={value}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["access_token"]

    # The whole run.

    def silent(self):
        """fosite's tokens have a name of their own; assertions and the other JWTs begin like every JWT."""
        texts = [self.sidecar.output.read_text(errors="replace")]
        texts += [page(url).decode() for url in (self.sidecar.status_page, self.sidecar.metrics)]
        secret = [key.private.split("\n")[2] for key in (self.first, self.second)]
        for text in texts:
            if re.search(r"eyJ[\w-]+\.[\w-]+|ory_at_", text) or any(line in text for line in secret):
                raise Red("a key, an assertion or a token is in log, status or metrics")
        return f"{len(self.server.exchanges())} exchanges"

    def ended(self):
        status = self.sidecar.end()
        if status != 0:
            raise Red(f"exit status {status} after SIGTERM")
        return "exit status 0"

    def cells(self):
        whole = [("nothing secret said", self.silent), ("ended on SIGTERM", self.ended)]
        if self.sidecar.federated:
            return [*self.exchange_cells(), *whole]
        # fosite has no verifier that could be set.
        return [*self.bearer_cells(), *(self.zitadel_cells() if self.library == "zitadel" else []), *whole]

    def bearer_cells(self):
        return [
            ("an assertion without `sub` refused, and one with it granted", self.without_subject),
            ("an assertion granted", self.jwt_bearer),
            ("an unregistered key refused, then taken", self.unregistered),
            ("another key under the same id refused, then ours taken", self.replaced),
            ("another audience refused, then ours taken", self.audience),
        ]

    def zitadel_cells(self):
        return [
            ("an assertion in Google's form granted, without `sub`", self.googles_form),
            ("a server ten minutes behind followed", lambda: self.clock(-600, "future")),
            ("a server two hours ahead followed", lambda: self.clock(7200, "expired")),
        ]

    def exchange_cells(self):
        return [
            ("another issuer's JWT granted", self.exchange),
            ("an expired subject token refused, then a fresh one taken", lambda: self.bad_subject(seconds=-60)),
            ("a forged subject token refused, then a true one taken", lambda: self.bad_subject(forged=True)),
            ("a subject token for another refused, then ours taken", lambda: self.bad_subject(provider="another")),
            ("an unknown provider refused, then ours taken", self.unknown_provider),
            ("the server's own ID token granted", self.own_id_token),
        ]
