"""One instance on its way in: from the first fragment of its data set to the DIMSE status of its C-STORE response.

Owns the `Arrival` it is given, and ends it exactly once, whatever happens. Nothing is written before the identifying attributes were
read and admitted; then the fragments go from the receive buffer to the file, as many at once as are there. A failure (refused,
contradictory, no room) is remembered, the rest of the data set is read and thrown away, and `finish` tells it: the association goes on.
Memory: the head of a data set whose identifying attributes do not lie within its first bytes, up to `header.LIMIT_BYTES`.
"""

from __future__ import annotations

import os

from attrs import frozen

from mkisod.explicit_vr import Walker
from mkisod.pacs.command import Command
from mkisod.pacs.header import LIMIT_BYTES, scan_header
from mkisod.pacs.part10 import encode_file_meta
from mkisod.pacs.reception import DATA_SET_MISMATCH, OUT_OF_RESOURCES, SUCCESS, Arrival, Header, Offer, Reception, Refusal

_MOST_PIECES = 1000  # below IOV_MAX of Linux, 1024


@frozen
class Origin:
    """Whence an instance comes."""

    calling_ae_title: str
    peer: str


class IncomingInstance:
    """Used by one thread: `write` for each fragment, then `finish`; or `abandon` at any time."""

    def __init__(self, command: Command, transfer_syntax_uid: str, origin: Origin, reception: Reception, walker: Walker) -> None:
        self._command = command
        self._transfer_syntax_uid = transfer_syntax_uid
        self._origin = origin
        self._reception = reception
        self._walker = walker
        self._head: bytearray | None = None  # what came before the header was complete, where the first fragment did not hold all of it
        self._next_scan_bytes = 0
        self._arrival: Arrival | None = None
        self._pieces: list[bytes | bytearray | memoryview] = []  # to be written: views into the receive buffer, so not for long
        self._size_bytes = 0  # of the file, so far
        self._refusal: Refusal | None = None

    def write(self, fragment: memoryview) -> None:
        """Takes the next bytes of the data set. Never raises for what they hold, nor for a full disk."""
        if self._refusal is not None:
            return
        if self._arrival is None:
            self._collect_head(fragment)
        else:
            self._pieces.append(fragment)
            if len(self._pieces) == _MOST_PIECES:
                self.flush()

    def flush(self) -> None:
        """Writes what has gathered: many small fragments cost one system call."""
        pieces, self._pieces = self._pieces, []
        if self._arrival is None or not pieces:
            return
        try:
            self._size_bytes += _write_file(self._arrival.fd, pieces, self._size_bytes)
        except OSError as error:
            self._refuse_for(error)
            self.abandon(error)

    def finish(self) -> tuple[int, str]:
        """The data set is over. DIMSE status and Error Comment of the response."""
        if self._refusal is None and self._arrival is None:
            self._admit(self._head or b"", whole=True)
        self.flush()
        if self._refusal is None and self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            try:
                arrival.commit(self._size_bytes)
            except Refusal as refusal:
                self._refusal = refusal
            except OSError as error:
                self._refuse_for(error)
        if self._refusal is None:
            return SUCCESS, ""
        return self._refusal.dimse_status, self._refusal.comment

    def describe_refusal(self) -> dict[str, str]:
        """What the journal is to know of an instance that was refused: which it is, and whose request it was sent for."""
        return {"sop_instance_uid": self._command.sop_instance_uid, **(self._refusal.about if self._refusal else {})}

    def abandon(self, error: OSError | None = None) -> None:
        """The rest will not come, or cannot be written (`error`)."""
        self._head, self._pieces = None, []
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.abort(error)

    def _collect_head(self, fragment: memoryview) -> None:
        if self._head is None:
            if not self._admit(fragment, whole=len(fragment) >= LIMIT_BYTES):
                self._head = bytearray(fragment)
                self._next_scan_bytes = 2 * len(fragment)
            return
        self._head += fragment
        # Looking again only when it has doubled keeps the cost linear, however small the fragments are.
        if len(self._head) >= min(self._next_scan_bytes, LIMIT_BYTES):
            self._next_scan_bytes = 2 * len(self._head)
            if self._admit(self._head, whole=len(self._head) >= LIMIT_BYTES):
                self._head = None

    def _admit(self, head: bytes | bytearray | memoryview, *, whole: bool) -> bool:
        """False: `head` does not hold all of the header yet."""
        header = scan_header(head, self._transfer_syntax_uid, self._walker, whole=whole)
        if header is None:
            return False
        command = self._command
        if (header.sop_class_uid, header.sop_instance_uid) != (command.sop_class_uid, command.sop_instance_uid):
            self._refusal = Refusal(DATA_SET_MISMATCH, "SOP Class or Instance UID of command and data set differ")
            return True
        try:
            self._arrival = self._reception.admit(self._make_offer(header))
        except Refusal as refusal:
            self._refusal = refusal
        except OSError as error:
            self._refuse_for(error)
        else:
            meta = encode_file_meta(
                command.sop_class_uid, command.sop_instance_uid, self._transfer_syntax_uid, self._origin.calling_ae_title
            )
            self._pieces = [meta, head]
        return True

    def _make_offer(self, header: Header) -> Offer:
        return Offer(
            sop_class_uid=self._command.sop_class_uid,
            sop_instance_uid=self._command.sop_instance_uid,
            transfer_syntax_uid=self._transfer_syntax_uid,
            header=header,
            calling_ae_title=self._origin.calling_ae_title,
            peer=self._origin.peer,
            move_originator_ae_title=self._command.move_originator_ae_title,
            move_originator_message_id=self._command.move_originator_message_id,
        )

    def _refuse_for(self, error: OSError) -> None:
        """What the operating system denies is a lack of ours, never a fault of the instance: A7xxH, not CxxxH (PS3.4 Table B.2-1)."""
        reason = os.strerror(error.errno) if error.errno else "I/O error"
        self._refusal = Refusal(OUT_OF_RESOURCES, f"cannot store: {reason}")


def _write_file(fd: int | None, pieces: list[bytes | bytearray | memoryview], offset: int) -> int:
    """Returns how many bytes there are, whether or not somebody wants them."""
    size = sum(map(len, pieces))
    if fd is not None and (written := os.pwritev(fd, pieces, offset)) < size:
        rest = memoryview(b"".join(pieces))  # a disk that fills takes a part first
        while written < size:
            written += os.pwrite(fd, rest[written:], offset + written)
    return size
