"""Memory, system calls and wake-ups of the receiver, as the kernel counts them. Times are not asserted; these stand for them."""

from __future__ import annotations

import logging
import re
import resource
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.receiver.conftest import Instance
from tests.peers import echo, require
from tests.processes import Process, free_port, started, wait_for
from tests.receiver.client import Client, encode_associate_rq, encode_message, encode_pdu, encode_pdv, encode_store_rq

LOG = logging.getLogger(__name__)
MIB = 1 << 20
RECEIVER = [sys.executable, "-m", "tests.receiver.process"]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder


@pytest.fixture
def address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def process(objects: Path, address: tuple[str, int], tmp_path: Path) -> Iterator[Process]:
    with started("receiver", [*RECEIVER, objects, address[1]], tmp_path / "receiver.log") as running:
        running.wait_ready(lambda: echo("CDRECORD", address[1]))
        yield running


def read_status(process: Process, key: str) -> int:
    """A figure of /proc/PID/status: VmHWM and VmRSS are in KiB."""
    text = Path(f"/proc/{process.popen.pid}/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[0])


def send_large(client: Client, ct: Instance, size_bytes: int) -> None:
    """A multi-frame object: pixel data of `size_bytes`, encapsulated, in fragments of 1 MiB as frames have them."""
    front = ct.data_set[: ct.data_set.index(b"\xe0\x7f\x10\0OW")]
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, MIB) + bytes(MIB)
    client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
    client.send(encode_pdu(4, encode_pdv(1, 0, front + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF))))
    pdus = b"".join(encode_pdu(4, encode_pdv(1, 0, fragment[start : start + 131066])) for start in range(0, len(fragment), 131066))
    for _ in range(size_bytes // MIB):
        client.send(pdus)
    client.send(encode_pdu(4, encode_pdv(1, 2, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))))


def test_a_2_gib_object_costs_no_memory(process: Process, address: tuple[str, int], objects: Path, ct: Instance) -> None:
    with Client(address, timeout_s=300) as client:
        client.associate([(ct.sop_class_uid, ["1.2.840.10008.1.2.4.90"])])
        client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set)
        before_kib = read_status(process, "VmHWM")
        send_large(client, ct, 2048 * MIB)
        assert client.response().Status == 0
    received = max(objects.iterdir())
    assert received.stat().st_size > 2048 * MIB
    received.unlink()
    grown_kib = read_status(process, "VmHWM") - before_kib
    LOG.info("memory grew by %d KiB", grown_kib)
    assert grown_kib <= 1024


def test_each_association_costs_less_than_a_mebibyte(process: Process, address: tuple[str, int], ct: Instance) -> None:
    before_kib = read_status(process, "VmRSS")
    clients = [Client(address) for _ in range(32)]
    for client in clients:
        client.associate()
        client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid), ct.data_set + bytes(4 * MIB), 131066))
        assert client.response().Status == 0
    grown_kib = read_status(process, "VmRSS") - before_kib
    for client in clients:
        client.socket.close()
    LOG.info("32 associations cost %d KiB", grown_kib)
    assert grown_kib < 32 * 1024


def test_what_a_peer_announces_is_not_allocated(process: Process, address: tuple[str, int]) -> None:
    before_kib = read_status(process, "VmHWM")
    longest = 0xFFFFFFFF
    for sent in (encode_pdu(1, b"", longest), encode_pdu(1, b"", MIB), encode_associate_rq() + encode_pdu(4, b"", longest)):
        clients = [Client(address) for _ in range(16)]
        for client in clients:
            client.send(sent)
        for client in clients:
            client.socket.close()
    assert echo("CDRECORD", address[1])
    assert read_status(process, "VmHWM") - before_kib < 16 * 1024


def test_nothing_wakes_while_nothing_happens(process: Process, address: tuple[str, int], ct: Instance) -> None:
    """Idle threads are counted by their context switches. The pause is what is measured, not a wait for something."""

    def count_switches() -> dict[str, int]:
        tasks = Path(f"/proc/{process.popen.pid}/task")
        texts = {task.name: (task / "status").read_text(encoding="ascii") for task in tasks.iterdir()}
        return {name: sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", text))) for name, text in texts.items()}

    with Client(address) as idle, Client(address) as silent, Client(address) as half:
        idle.associate()
        idle.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set)
        half.associate()
        half.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
        half.send(encode_pdu(4, encode_pdv(1, 0, ct.data_set)))

        def is_at_rest() -> dict[str, int] | None:
            before = count_switches()
            threading.Event().wait(0.3)
            return before if count_switches() == before else None

        settled = wait_for(is_at_rest, 20, "rest")
        threading.Event().wait(2)
        assert count_switches() == settled
        assert len(settled) == 5  # main thread, accepting thread, three associations
        assert silent.socket.fileno() >= 0


def test_out_of_descriptors_it_waits_and_then_serves(process: Process, address: tuple[str, int]) -> None:
    pid = process.popen.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    in_use = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use, hard))
    with Client(address) as client:
        client.send(encode_associate_rq())
        wait_for(lambda: "Too many open files" in process.output, 20, "the descriptors to run out")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        answer = client.pdu()
        assert answer is not None
        assert answer[0] == 2


def test_system_calls_per_instance(process: Process, address: tuple[str, int], tmp_path: Path, ct: Instance) -> None:
    """What a small instance costs. A file that is opened, written, closed and renamed takes four."""
    instances, trace = 200, tmp_path / "trace"
    with Client(address) as client:
        client.associate()
        client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set)
        command = [require("strace"), "-f", "-o", trace, "-p", process.popen.pid]
        with started("strace", command, tmp_path / "strace.log") as strace:
            wait_for(lambda: "attached" in strace.output, 20, "strace to see all threads")
            for _ in range(instances):
                assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0
    lines = trace.read_text(encoding="ascii", errors="replace").splitlines()
    calls = [line.split()[1].partition("(")[0] for line in lines if "resumed>" not in line and "---" not in line]
    assert calls.count("rename") == calls.count("sendto") == calls.count("pwritev2") == instances
    assert calls.count("recvfrom") <= 5 * instances  # the test's client sends the instance in three pieces
    assert len(calls) <= 16 * instances
