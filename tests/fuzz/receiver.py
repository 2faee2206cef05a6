"""Throws malformed bytes at the receiver's port: `python -m tests.fuzz.receiver --count 100000 --seed N`. The same seed, the same bytes.

Half of the inputs come from a generator of PDUs that are wrong in one or more ways; the other half are associations of real programs,
captured on the wire, then cut, repeated, exchanged in part, or with bits turned over. After every thousand the receiver has to answer
a C-ECHO and store an instance; at the end there may be no more threads and file descriptors than at the beginning, no file that is not
whole, and not one report of a defect.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
from attrs import frozen
from pydicom.data import get_testdata_file

from mkisod.pacs.receiver import Receiver, ReceiverSettings
from tests.fuzz.capture import capture_associations
from tests.receiver.client import (
    CT_IMAGE_STORAGE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    Client,
    encode_associate_rq,
    encode_echo_rq,
    encode_message,
    encode_pdu,
    encode_pdv,
    encode_store_rq,
    read_data_set,
)
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal

_LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 68, 131072, 131073, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF]
_CHECK_EVERY = 1000
_DEADLINE_S = 20.0


@frozen
class Finding(Exception):
    """What the receiver should not have done."""

    what: str

    def __str__(self) -> str:
        return self.what


def mutate(random_: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to four changes."""
    changed = bytearray(data)
    for _ in range(random_.randrange(1, 5)):
        at = random_.randrange(len(changed) + 1)
        kind = random_.randrange(7)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            del changed[at : at + random_.choice([1, 2, 4, 100])]
        elif kind == 2:
            changed[at:at] = random_.randbytes(random_.choice([1, 2, 4, 100]))
        elif kind == 3 and at < len(changed):
            changed[at] ^= 1 << random_.randrange(8)
        elif kind == 4:
            changed[at : at + 4] = struct.pack(random_.choice("<>") + "I", random_.choice(_LENGTHS))
        elif kind == 5:
            changed[at:at] = changed[max(0, at - random_.randrange(2000)) : at]
        else:
            other = random_.choice(others)
            start = random_.randrange(len(other) + 1)
            changed[at:at] = other[start : start + random_.randrange(3000)]
    return bytes(changed[:200_000])


def generate(random_: random.Random, data_set: bytes) -> bytes:
    """An association, most of it right, some of it not."""
    classes = [CT_IMAGE_STORAGE, "1.2.840.10008.1.1", "1.2.3", "1.2.840.10008.5.1.4.1.2.2.1"]
    number = random_.choice([1, 1, 2, 5, 128])
    contexts = [(random_.choice(classes), [random_.choice([EXPLICIT_LE, IMPLICIT_LE])]) for _ in range(number)]
    called = random_.choice(["CDRECORD", "CDRECORD", "CDRECORD", "OTHER"])
    parts = [encode_associate_rq(contexts, called=called, max_length_bytes=random_.choice([0, 1, 7, 16384, 0xFFFFFFFF]))]

    def make_pdv() -> bytes:
        body = random_.choice([b"", random_.randbytes(random_.randrange(300)), encode_echo_rq(), data_set[: random_.randrange(4000)]])
        length = random_.choice([None, None, None, random_.choice(_LENGTHS)])
        return encode_pdv(random_.choice([1, 1, 1, 3, 0, 2, 255]), random_.choice([0, 1, 2, 3, 3, 255]), body, length)

    def make_command() -> bytes:
        elements = [
            (random_.choice([0, 2, 3, 0x100, 0x110, 0x120, 0x800, 0x1000, 0x1030, 0x1031, 0x900]), random_.randbytes(random_.randrange(9)))
            for _ in range(random_.randrange(12))
        ]
        return b"".join(struct.pack("<HHI", random_.choice([0, 0, 0, 8]), element, len(value)) + value for element, value in elements)

    def make_store() -> bytes:
        return encode_store_rq(CT_IMAGE_STORAGE, random_.choice(["1.2.3", "x", "9" * 70]))

    makers: list[Callable[[], bytes]] = [
        lambda: encode_pdu(random_.randrange(256), random_.randbytes(random_.randrange(200)), random_.choice([None, *_LENGTHS])),
        lambda: encode_pdu(4, b"".join(make_pdv() for _ in range(random_.randrange(4))), random_.choice([None, None, *_LENGTHS])),
        lambda: encode_message(1, make_command(), random_.choice([b"", data_set[: random_.randrange(3000)]])),
        lambda: encode_message(1, make_store(), random_.randbytes(random_.randrange(5000))),
        lambda: encode_message(1, encode_echo_rq()),
        lambda: encode_pdu(random_.choice([5, 6, 7]), bytes(4)),
        lambda: random_.randbytes(random_.randrange(60)),
    ]
    parts += [random_.choice(makers)() for _ in range(random_.randrange(1, 7))]
    if random_.random() < 0.2:
        random_.shuffle(parts)
    return b"".join(parts)


def make_inputs(seed: int, count: int, captured: list[bytes], data_set: bytes) -> Iterator[bytes]:
    random_ = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    for _ in range(count):
        yield mutate(random_, random_.choice(captured), captured) if random_.random() < 0.5 else generate(random_, data_set)


def throw(port: int, data: bytes) -> None:
    """Sends it all, listens for a moment to what comes back, and leaves: at times rudely, so that the receiver meets a reset."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(data)
            if len(data) % 3:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            elif len(data) % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        return  # the receiver has cut it short, as it should


def check_alive(port: int, data_set: bytes, sop_instance_uid: str) -> None:
    with Client(("127.0.0.1", port)) as client:
        client.associate()
        client.send(encode_message(3, encode_echo_rq()))
        if client.response().Status != 0 or client.store(CT_IMAGE_STORAGE, sop_instance_uid, data_set).Status != 0:
            raise Finding("the receiver does not serve any more")
        client.release()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise Finding(what)
        time.sleep(0.02)


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def fuzz(count: int, seed: int, *, note: Callable[[str], object] = lambda _: None) -> int:
    """Throws `count` inputs. Returns how many of them led to an association. Raises `Finding`."""
    path = Path(str(get_testdata_file("CT_small.dcm")))
    data_set, sop_instance_uid = read_data_set(path), str(pydicom.dcmread(path).SOPInstanceUID)
    captured = capture_associations([path])
    journal = Journal()
    with tempfile.TemporaryDirectory(prefix="mkisod-fuzz-") as name:
        reception = DirectoryReception(Path(name))
        receiver = Receiver(ReceiverSettings(host="127.0.0.1", port=0, artim_s=5, idle_timeout_s=5), reception, log=journal.log)
        receiver.bind()
        receiver.start()
        port = receiver.address[1]
        try:
            check_alive(port, data_set, sop_instance_uid)
            wait_until(lambda: threading.active_count() <= 2, "threads are left at the beginning")
            threads, descriptors = threading.active_count(), count_descriptors()
            associations = 0
            for number, data in enumerate(make_inputs(seed, count, captured, data_set), 1):
                throw(port, data)
                if number % _CHECK_EVERY == 0 or number == count:
                    check_alive(port, data_set, sop_instance_uid)
                    wait_until(lambda: threading.active_count() <= threads, f"a thread is left within inputs to {number}")
                    if count_descriptors() > descriptors:
                        raise Finding(f"a file descriptor is left within inputs to {number}")
                    if left := [file.name for file in reception.files if file.suffix != ".dcm"]:
                        raise Finding(f"{left[0]} is left within inputs to {number}")
                    if receiver.failed.is_set() or journal.named("association_failed"):
                        raise Finding(f"a defect within inputs to {number}: {journal.named('association_failed')}")
                    for file in reception.files:
                        file.unlink()
                    associations += len(journal.named("association_accepted"))
                    journal.events.clear()
                    reception.offers.clear()
                    reception.arrivals.clear()
                    note(f"{number} inputs, {associations} associations")
        finally:
            receiver.stop(0)
    return associations


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.receiver", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    try:
        fuzz(arguments.count, arguments.seed, note=lambda line: sys.stdout.write(f"{line}\n"))
    except Finding as finding:
        sys.exit(f"{finding}; repeat with --seed {arguments.seed}")


if __name__ == "__main__":
    main()
