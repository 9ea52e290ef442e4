"""The cluster's certificates, by openssl: one root, the API server's, one for each client, and service accounts' key."""

import subprocess

CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "node": "/O=system:nodes/CN=system:node:{node}",
}
NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True, **options)
    return done.stdout


class Authority:
    """A root in `folder`, and what it signs."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        usage = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
        openssl("req", "-x509", *EC, "-days", "7", "-subj", f"/CN=cluster tests: {name}", *files, *usage)

    @property
    def certificate(self):
        return self.folder / f"{self.name}.crt"

    def sign(self, name, subject, usage, alternatives=""):
        """Makes `name.key` and `name.crt`."""
        files = {kind: self.folder / f"{name}.{kind}" for kind in ("key", "csr", "ext", "crt")}
        openssl("req", *EC, "-subj", subject, "-keyout", files["key"], "-out", files["csr"])
        lines = ["basicConstraints=CA:FALSE", f"extendedKeyUsage={usage}"]
        files["ext"].write_text("\n".join(lines + [f"subjectAltName={alternatives}"] * bool(alternatives)))
        signer = ("-CA", self.certificate, "-CAkey", self.folder / f"{self.name}.key", "-CAcreateserial")
        openssl(
            "x509", "-req", "-in", files["csr"], *signer, "-days", "7", "-extfile", files["ext"], "-out", files["crt"]
        )


def make(folder, node, addresses):
    """Everything the control plane and the node are started with."""
    folder.mkdir()
    root = Authority(folder)
    alternatives = [f"DNS:{name}" for name in NAMES] + [f"IP:{address}" for address in addresses]
    root.sign("apiserver", "/CN=kube-apiserver", "serverAuth", ",".join(alternatives))
    for name, subject in CLIENTS.items():
        root.sign(name, subject.format(node=node), "clientAuth")
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", folder / "accounts.key")
    openssl("pkey", "-in", folder / "accounts.key", "-pubout", "-out", folder / "accounts.pub")
    return root


def kubeconfig(folder, name, server):
    """`kubectl`'s and everybody else's way in, as the client `name`."""
    text = f"""apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "{server}", certificate-authority: {folder}/ca.crt}}}}]
users: [{{name: it, user: {{client-certificate: {folder}/{name}.crt, client-key: {folder}/{name}.key}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"""
    path = folder / f"{name}.kubeconfig"
    path.write_text(text)
    return path
