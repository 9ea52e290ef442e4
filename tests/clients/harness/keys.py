"""Throw-away service-account keys, made by openssl in the shape of Google's key files."""

import dataclasses
import json
import os
import secrets
import subprocess

PROJECT = "cells-project"


@dataclasses.dataclass(frozen=True)
class Key:
    """One key: `name` is what the servers' log calls it."""

    name: str
    key_id: str
    email: str
    private: str
    public: str

    def registration(self):
        return {"id": self.name, "keyId": self.key_id, "email": self.email, "public": self.public}

    def file(self):
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self.key_id,
            "private_key": self.private,
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        }

    def write(self, path):
        """Puts the file in place whole, as a Secret's mount does."""
        new = path.with_name(f".{path.name}.new")
        new.write_text(json.dumps(self.file(), indent=2))
        os.replace(new, path)


def device(path):
    """Puts a device's EC key into a file; returns the public half."""
    private = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    path.write_text(private)
    return openssl("pkey", "-pubout", text=private)


def openssl(*arguments, text=""):
    return subprocess.run(["openssl", *arguments], input=text, check=True, capture_output=True, text=True).stdout


def make(name, account):
    private = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    public = openssl("pkey", "-pubout", text=private)
    email = f"{account}@{PROJECT}.iam.gserviceaccount.com"
    return Key(name, secrets.token_hex(20), email, private, public)
