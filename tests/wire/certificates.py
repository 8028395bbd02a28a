"""Certificates for the tests of TLS: two authorities, the node's own, and those of senders; made by OpenSSL."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True)
class Certificates:
    """A folder of PEM files: ``NAME.crt`` and ``NAME.key`` for the names below."""

    folder: Path

    def certificate(self, name: str) -> str:
        return str(self.folder / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def fingerprint(self, name: str) -> str:
        """As openssl prints it: in capitals, with colons."""
        said = _openssl("x509", "-in", self.certificate(name), "-noout", "-fingerprint", "-sha256")
        return "sha256:" + said.strip().partition("=")[2]

    def client(self, name: str = "") -> ssl.SSLContext:
        """What a sender with this certificate calls with; with none if no name is given."""
        context = ssl.create_default_context(cafile=self.certificate("authority"))
        if name:
            context.load_cert_chain(self.certificate(name), self.key(name))
        return context


def make_certificates(folder: Path) -> Certificates:
    """The authority signs ``node``, ``ct1`` and ``mr1``; ``forged`` says to be CT1 too, by another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    made = Certificates(folder)
    for name in ("authority", "other"):
        _openssl("req", "-x509", *_new_key(made, name), "-subj", f"/CN={name}", "-out", made.certificate(name))
    for name, subject, signer in (
        ("node", "localhost", "authority"),
        ("ct1", "CT1", "authority"),
        ("mr1", "MR1", "authority"),
        ("forged", "CT1", "other"),
    ):
        signed_by = ("-CA", made.certificate(signer), "-CAkey", made.key(signer))
        more = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
        _openssl(
            "req", "-x509", *_new_key(made, name), *signed_by, *more,
            "-subj", f"/O=Hospital/CN={subject}", "-out", made.certificate(name),
        )  # fmt: skip
    return made


def _new_key(made: Certificates, name: str) -> tuple[str, ...]:
    return ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", made.key(name))


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout
