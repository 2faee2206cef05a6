"""TLS towards destinations and PACSs, with client certificates: DCMTK's storescp, Orthanc, our own receiver; and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.config.settings import TlsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.forwarding import make_convert
from mkisod.job.forwarding import Outcome
from mkisod.pacs.echo import send_echo
from mkisod.pacs.forward import Sender
from mkisod.pacs.peer import Peer
from mkisod.pacs.receiver import Receiver, ReceiverSettings
from mkisod.pacs.settings import TlsSettings as ReceiverTls
from mkisod.pacs.stored import read_stored
from tests.certificates import make_certificates
from tests.daemon import running_daemon
from tests.forward import Connection, accepting
from tests.integration.forward.conftest import find
from tests.integration.journey.site import make_config
from tests.peers import dicomdirtests, orthanc, require
from tests.processes import HOST, Process, free_port, started
from tests.receiver.client import read_data_set
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal

FILE = "CT_small.dcm"
Use = Callable[[Peer], None]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(certificates: Path, who: str | None = "client", ca: str = "ca") -> TlsSettings:
    own = (str(certificates / f"{who}.pem"), str(certificates / f"{who}.key")) if who else ("", "")
    return TlsSettings(*own, str(certificates / f"{ca}.pem"))


def make_peer(port: int, tls: TlsSettings | None, ae_title: str = "STORESCP", host: str = "localhost") -> Peer:
    return Peer("PEER", host, port, ae_title, connect_timeout_s=5, response_timeout_s=20, tls=tls)


def store(peer: Peer) -> None:
    """By our own association."""
    (sent,) = Sender(peer, "CDRECORD", make_convert(Path("/nowhere"))).send([read_stored(find(FILE))])
    assert sent.outcome is Outcome.SENT, sent


def echo(peer: Peer) -> None:
    """By pynetdicom's, as PACSs are asked."""
    send_echo(peer, "CDRECORD")


@contextmanager
def tls_storescp(folder: Path, certificates: Path, who: str, *options: object) -> Iterator[tuple[int, Path]]:
    """DCMTK's, which by default wants a certificate of the other side."""
    port, received = free_port(), folder / "received"
    received.mkdir(parents=True)
    tls = ["+tls", certificates / f"{who}.key", certificates / f"{who}.pem", "+cf", certificates / "ca.pem", *options]
    command = [require("storescp"), "-v", "--fork", "-aet", "STORESCP", "--output-directory", received, *tls, port]
    with started("storescp", command, folder / "storescp.log") as process:
        wait_for_tls(process, port, certificates)
        yield port, received


def wait_for_tls(process: Process, port: int, certificates: Path) -> None:
    tls = ["+tls", certificates / "client.key", certificates / "client.pem", "+cf", certificates / "ca.pem", "-ic"]
    command = list(map(str, [require("echoscu"), *tls, "-aec", "STORESCP", HOST, port]))
    process.wait_ready(lambda: subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0)


def fail(use: Use, peer: Peer) -> MkisodError:
    with pytest.raises(MkisodError) as raised:
        use(peer)
    return raised.value


each_use = pytest.mark.parametrize("use", [store, echo])


@pytest.mark.parametrize("host", ["localhost", HOST])
def test_storescp(tmp_path: Path, certificates: Path, host: str) -> None:
    with tls_storescp(tmp_path, certificates, "server") as (port, received):
        store(make_peer(port, settings(certificates), host=host))
        echo(make_peer(port, settings(certificates), host=host))
        (file,) = received.iterdir()
        assert len(read_data_set(file)) > 30000


@each_use
def test_an_authority_that_we_do_not_know(tmp_path: Path, certificates: Path, use: Use) -> None:
    with tls_storescp(tmp_path, certificates, "server") as (port, _):
        error = fail(use, make_peer(port, settings(certificates, ca="stranger")))
    assert (error.code, error.transient) == (Code.TLS_FAILED, False)
    assert "is not trusted" in error.message


@each_use
def test_a_certificate_of_another_host(tmp_path: Path, certificates: Path, use: Use) -> None:
    with tls_storescp(tmp_path, certificates, "elsewhere") as (port, _):
        error = fail(use, make_peer(port, settings(certificates)))
    assert (error.code, error.transient) == (Code.TLS_FAILED, False)
    assert "is not for the host localhost" in error.message


@each_use
@pytest.mark.parametrize("who", [None, "stranger"])
def test_a_client_certificate_that_is_missing_or_not_accepted(tmp_path: Path, certificates: Path, use: Use, who: str | None) -> None:
    with tls_storescp(tmp_path, certificates, "server") as (port, received):
        error = fail(use, make_peer(port, settings(certificates, who)))
        assert not list(received.iterdir())
    assert error.code is Code.TLS_FAILED, error
    assert "PEER (STORESCP@localhost:" in error.message


@each_use
def test_a_peer_that_does_not_speak_tls(certificates: Path, use: Use) -> None:
    def serve(connection: Connection) -> None:
        connection.read(6)
        connection.socket.sendall(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 2)))  # an A-ABORT: unexpected PDU

    with accepting(serve=serve) as acceptor:
        error = fail(use, make_peer(acceptor.port, settings(certificates)))
    assert (error.code, error.transient) == (Code.TLS_FAILED, False)
    assert "does not speak TLS on this port" in error.message


@each_use
def test_a_peer_that_closes_during_the_handshake(certificates: Path, use: Use) -> None:
    with accepting(serve=lambda connection: connection.close()) as acceptor:
        error = fail(use, make_peer(acceptor.port, settings(certificates)))
    assert (error.code, error.transient) == (Code.TLS_FAILED, True)
    assert "may not speak TLS" in error.message


def test_a_peer_that_is_silent_during_the_handshake(certificates: Path) -> None:
    def serve(connection: Connection) -> None:
        connection.read(1 << 20)

    with accepting(serve=serve) as acceptor:
        peer = Peer("PEER", "localhost", acceptor.port, "X", connect_timeout_s=0.2, tls=settings(certificates))
        error = fail(store, peer)
    assert isinstance(error, Transient)
    assert error.code is Code.PACS_UNREACHABLE


def test_we_speak_in_clear_and_the_peer_does_not(tmp_path: Path, certificates: Path) -> None:
    with tls_storescp(tmp_path, certificates, "server") as (port, _):
        error = fail(store, make_peer(port, None))
    assert isinstance(error, Transient)
    assert error.code is Code.PACS_UNREACHABLE


def test_files_that_are_no_certificates(certificates: Path) -> None:
    with pytest.raises(Permanent) as raised:
        store(make_peer(1, TlsSettings(str(certificates / "client.key"), str(certificates / "client.pem"), "")))
    assert raised.value.code is Code.CONFIGURATION_INVALID


@pytest.fixture
def orthanc_keys(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Of its configuration. It is ready when it answers a C-ECHO under TLS."""

    def echo_tls(ae_title: str, port: int) -> bool:
        try:
            echo(make_peer(port, settings(certificates), ae_title))
        except MkisodError:
            return False
        return True

    monkeypatch.setattr("tests.peers.echo", echo_tls)
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificates / "server.pem"),
        "DicomTlsPrivateKey": str(certificates / "server.key"),
        "DicomTlsTrustedCertificates": str(certificates / "ca.pem"),
    }


@each_use
def test_orthanc(tmp_path: Path, certificates: Path, use: Use, orthanc_keys: dict[str, object]) -> None:
    with orthanc(tmp_path / "archive", configuration=orthanc_keys) as peer:
        use(make_peer(peer.port, settings(certificates), "ABPACS"))
        assert fail(use, make_peer(peer.port, settings(certificates, "stranger"), "ABPACS")).code is Code.TLS_FAILED
        error = fail(use, make_peer(peer.port, settings(certificates, ca="stranger"), "ABPACS"))
        assert "is not trusted" in error.message


@each_use
def test_our_own_receiver(tmp_path: Path, certificates: Path, use: Use) -> None:
    (tmp_path / "objects").mkdir()
    tls = ReceiverTls(*(str(certificates / name) for name in ("server.pem", "server.key", "ca.pem")))
    receiver = Receiver(ReceiverSettings(host=HOST, port=0, tls=tls), DirectoryReception(tmp_path / "objects"), log=Journal().log)
    receiver.bind()
    receiver.start()
    try:
        use(make_peer(receiver.address[1], settings(certificates), "CDRECORD"))
        assert fail(use, make_peer(receiver.address[1], settings(certificates, None), "CDRECORD")).code is Code.TLS_FAILED
    finally:
        receiver.stop(5)


def test_the_whole_way_under_tls(tmp_path: Path, certificates: Path, orthanc_keys: dict[str, object]) -> None:
    """Asked, moved, received and forwarded; nothing goes in clear."""
    port = free_port()
    files = [path for path in dicomdirtests() if dcmread(path, specific_tags=["AccessionNumber"]).AccessionNumber == "134"]
    modality = {"AET": "CDRECORD", "Host": HOST, "Port": port, "UseDicomTls": True}
    keys = {**orthanc_keys, "DicomModalities": {"CDRECORD": modality}}
    tables = {
        "receiver": f'certificate = "{certificates}/server.pem"\nkey = "{certificates}/server.key"\nca = "{certificates}/ca.pem"\n',
        "client": f'certificate = "{certificates}/client.pem"\nkey = "{certificates}/client.key"\nca = "{certificates}/ca.pem"\n',
    }
    with (
        orthanc(tmp_path / "archive", files, configuration=keys) as archive,
        tls_storescp(tmp_path / "peer", certificates, "server") as (peer_port, received),
    ):
        config = make_config(tmp_path / "spool", port, {"ABPACS": (HOST, archive.port)})
        config += f"\n[receiver.tls]\n{tables['receiver']}\n[pacs.ABPACS.tls]\n{tables['client']}"
        config += f'\n[forward.PEER]\nhost = "{HOST}"\nport = {peer_port}\nae_title = "STORESCP"\n[forward.PEER.tls]\n{tables["client"]}'
        with running_daemon(tmp_path, config) as daemon:
            daemon.drop("t", "134\n@forward PEER\n@end\n")
            status = daemon.wait_status("t", "done")
        assert status["forward"][0]["sent"] == len(list(received.iterdir())) == len(files)
