# SPDX-License-Identifier: Apache-2.0
"""Certificates of clients and servers for the tests, made with the openssl command."""
import subprocess


def openssl(*args):
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"openssl {args}: {done.stderr}"
    return done.stdout


class Authority:
    """A CA in a folder of its own; `file` is its certificate."""

    def __init__(self, folder, name):
        self.folder, self.file, self.key = folder, folder / f"{name}.pem", folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out",
                self.file, "-days", 30, "-subj", f"/O=test/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign")
        (folder / f"{name}.db").write_text("")
        (folder / f"{name}.cnf").write_text(
            f"[ca]\ndefault_ca = c\n[c]\ndatabase = {folder}/{name}.db\nnew_certs_dir = {folder}\nrand_serial = yes\n"
            "policy = p\ndefault_md = sha256\nunique_subject = no\n[p]\nO = optional\nCN = supplied\n")
        self.name = name

    def issue(self, name, common_name, expired=False, usage="clientAuth", names=None):
        """Files of a certificate and its key."""
        base = self.folder / f"{self.name}-{name}"
        crt, key, csr, ext = (base.with_suffix(s) for s in (".pem", ".key", ".csr", ".ext"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr, "-subj",
                f"/O=test/CN={common_name}")
        ext.write_text(f"basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
                       + (f"subjectAltName={names}\n" if names else ""))
        times = ("20200101000000Z", "20210101000000Z") if expired else ("20200101000000Z", "20491231000000Z")
        openssl("ca", "-batch", "-notext", "-config", self.folder / f"{self.name}.cnf", "-cert", self.file, "-keyfile", self.key,
                "-in", csr, "-out", crt, "-extfile", ext, "-startdate", times[0], "-enddate", times[1])
        return crt, key
