"""Certificates made by openssl, as an administrator would make them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers import require

LOCAL = "DNS:localhost,IP:127.0.0.1"


def make_certificates(folder: Path) -> Path:
    """ca and stranger, who sign themselves; and signed by ca: server (localhost), elsewhere (another host), client. Each .pem and .key."""
    program = require("openssl")

    def openssl(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)

    def request(name: str, *more: str) -> None:
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={name}", *more)

    for name in ("ca", "stranger"):
        names = ["-addext", f"subjectAltName={LOCAL}"] if name == "stranger" else []
        request(name, "-x509", "-out", f"{name}.pem", "-days", "2", *names)
    for name, alternative in (("server", LOCAL), ("elsewhere", "DNS:elsewhere.example"), ("client", "DNS:client.example")):
        request(name, "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n", encoding="ascii")
        signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.pem", "-days", "2")
    return folder
