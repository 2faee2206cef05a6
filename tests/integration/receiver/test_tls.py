"""TLS, with openssl's certificates and DCMTK as the other side."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from mkisod.pacs.receiver import Receiver, TlsSettings
from tests.integration.receiver.conftest import Instance
from tests.peers import require
from tests.processes import wait_for
from tests.receiver.client import Client, encode_associate_rq, encode_message, encode_pdu, encode_store_rq, read_data_set
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client, and stranger, whom the CA does not know: each .pem and .key."""
    folder = tmp_path_factory.mktemp("certificates")
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed (Debian package openssl)")

    def openssl(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]
        openssl("req", "-x509", *key, "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.pem", "-days", "2")
    return folder


@pytest.fixture
def tls_receiver(run_receiver: Callable[..., Receiver], certificates: Path) -> Receiver:
    settings = TlsSettings(str(certificates / "server.pem"), str(certificates / "server.key"), str(certificates / "ca.pem"))
    return run_receiver(tls=settings, artim_s=2)


def run_storescu(receiver: Receiver, certificates: Path, who: str, file: Path) -> subprocess.CompletedProcess[bytes]:
    tls = ["+tls", certificates / f"{who}.key", certificates / f"{who}.pem", "+cf", certificates / "ca.pem"]
    command = [require("storescu"), *tls, "-aec", "CDRECORD", "localhost", receiver.address[1], file]
    return subprocess.run(list(map(str, command)), check=False, capture_output=True, timeout=30)


def test_storescu(tls_receiver: Receiver, certificates: Path, ct: Instance, reception: DirectoryReception) -> None:
    completed = run_storescu(tls_receiver, certificates, "client", ct.path)
    assert completed.returncode == 0, completed.stderr
    assert pydicom.dcmread(reception.files[0]).PixelData == pydicom.dcmread(ct.path).PixelData


def test_a_stranger_is_kept_out(tls_receiver: Receiver, certificates: Path, ct: Instance, reception: DirectoryReception) -> None:
    assert run_storescu(tls_receiver, certificates, "stranger", ct.path).returncode != 0
    assert not reception.offers


def make_context(certificates: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    return context


@pytest.fixture
def tls_client(tls_receiver: Receiver, certificates: Path) -> Iterator[Client]:
    with Client(tls_receiver.address) as client:
        client.socket = make_context(certificates).wrap_socket(client.socket)
        yield client


def test_a_large_instance_and_the_idle_limit(
    tls_client: Client, tls_receiver: Receiver, ct: Instance, reception: DirectoryReception
) -> None:
    tls_client.associate()
    large = ct.data_set + bytes(3_000_000)
    tls_client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid), large, 131066))
    assert tls_client.response().Status == 0
    assert read_data_set(reception.files[0]) == large
    tls_receiver.stop(0)
    assert tls_client.abort() == (0, 0)  # and that under TLS, not in clear behind it


def test_idle_under_tls(run_receiver: Callable[..., Receiver], certificates: Path) -> None:
    receiver = run_receiver(tls=TlsSettings(str(certificates / "server.pem"), str(certificates / "server.key")), idle_timeout_s=0.2)
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.check_hostname = False
    with Client(receiver.address) as client:  # without a CA nobody has to show a certificate
        client.socket = context.wrap_socket(client.socket)
        client.associate()
        assert client.abort() == (0, 0)


def test_before_1_2_there_is_no_handshake(tls_receiver: Receiver, certificates: Path) -> None:
    context = make_context(certificates)
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(tls_receiver.address, 10) as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(plain)


def test_a_handshake_that_stalls_holds_up_nobody_and_has_its_time(tls_receiver: Receiver, tls_client: Client, journal: Journal) -> None:
    with Client(tls_receiver.address) as silent, Client(tls_receiver.address) as half:
        half.send(bytes.fromhex("16030100c8010000c40303"))
        tls_client.associate()
        tls_client.release()
        for stalled in (silent, half):
            assert stalled.pdu() is None
    wait_for(lambda: len(journal.named("association_aborted")) == 2, 10, "both to be given up")


def test_plain_dicom_on_a_tls_port(tls_receiver: Receiver, journal: Journal) -> None:
    with Client(tls_receiver.address) as client:
        client.send(encode_associate_rq())
        answer = client.pdu()
        assert answer is None or answer[0] not in {2, 3}
    wait_for(lambda: journal.named("tls_handshake_failed"), 10, "the failure of the handshake")


def test_an_association_over_tls_that_is_cut(tls_client: Client, tls_receiver: Receiver) -> None:
    tls_client.associate()
    tls_client.send(encode_pdu(4, b"", length=100))
    tls_client.socket.close()
    wait_for(lambda: tls_receiver.associations == 0, 10, "the association to be over")
