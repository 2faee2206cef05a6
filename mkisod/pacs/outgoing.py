"""One message on its way out: a command set, and a data set straight from its file (PS3.8 Annex D.1, E.2).

Owns one buffer, laid out once for the limit that the other side has announced: the heads of the PDUs stand in it, with gaps for the
fragments, which one `preadv` fills; one `send` then takes all of it. So a message costs two system calls for every half MiB, whatever the
size of a PDU, and memory is the buffer, whatever the size of an object.
"""

from __future__ import annotations

import os
from typing import Final

from mkisod.pacs import pdu
from mkisod.pacs.wire import Wire

BUFFER_BYTES: Final = 512 * 1024
LARGEST_PDU_BYTES: Final = 131072  # the most that DCMTK takes; larger ones were not faster
_HEAD_BYTES = pdu.PDU_HEADER.size + pdu.PDV_HEADER.size
_COMMAND_ROOM_BYTES = 1024  # in front: a command set and the first fragments go out together
_MOST_FRAGMENTS = 1000  # below IOV_MAX of Linux, 1024
_DATA, _LAST = 0b00, 0b10  # the message control header, PS3.8 Annex E.2
_CONTEXT_AT = 10  # of the ID of the presentation context in a head


class FileChanged(Exception):
    """The file became shorter while it was being sent."""


class OutgoingMessages:
    """The messages of one association, one after the other."""

    def __init__(self, wire: Wire, peer_max_length_bytes: int) -> None:
        """`peer_max_length_bytes` as it was announced; 0 is no limit."""
        limit = min(peer_max_length_bytes or LARGEST_PDU_BYTES, LARGEST_PDU_BYTES)
        self._wire = wire
        self._limit_bytes = limit
        self._fragment_bytes = max(2, (limit - pdu.PDV_HEADER.size) & ~1)  # of even length (PS3.8 Annex E.1)
        self._stride = _HEAD_BYTES + self._fragment_bytes
        count = max(1, min(BUFFER_BYTES // self._stride, _MOST_FRAGMENTS))
        self._buffer = memoryview(bytearray(_COMMAND_ROOM_BYTES + count * self._stride))
        self._heads = [_COMMAND_ROOM_BYTES + number * self._stride for number in range(count)]
        self._gaps = [self._buffer[head + _HEAD_BYTES : head + self._stride] for head in self._heads]
        self._context_id = 0
        for head in self._heads:
            self._write_head(head, self._fragment_bytes, _DATA)

    def send_small(self, context_id: int, command: bytes, data_set: bytes) -> None:
        """A message whose data set is in memory."""
        command_pdus = pdu.encode_command(context_id, command, self._limit_bytes)
        self._wire.send(command_pdus + pdu.encode_data_set(context_id, data_set, self._limit_bytes))

    def send(self, context_id: int, command: bytes, fd: int, offset: int, size_bytes: int) -> None:
        """A command set, then `size_bytes` of a file from `offset` on, of which there is at least one. Raises OSError, `FileChanged`."""
        self._choose_context(context_id)
        begin = self._lay_command(context_id, command)
        while size_bytes:
            count = min(size_bytes, len(self._heads) * self._fragment_bytes)
            size_bytes -= count
            last, tail = divmod(count - 1, self._fragment_bytes)
            tail += 1
            head, gaps = self._heads[last], self._gaps[: last + 1]
            gaps[last] = gaps[last][:tail]
            if os.preadv(fd, gaps, offset) != count:
                raise FileChanged
            offset += count
            if size_bytes:
                self._wire.send(self._buffer[begin:])
                begin = _COMMAND_ROOM_BYTES
            else:
                self._write_head(head, tail, _LAST)
                self._wire.send(self._buffer[begin : head + _HEAD_BYTES + tail])
                self._write_head(head, self._fragment_bytes, _DATA)

    def _lay_command(self, context_id: int, command: bytes) -> int:
        """Where the message begins in the buffer. A command set that finds no room in front of the fragments is sent at once."""
        encoded = pdu.encode_command(context_id, command, self._limit_bytes)
        if len(encoded) > _COMMAND_ROOM_BYTES:
            self._wire.send(encoded)
            return _COMMAND_ROOM_BYTES
        begin = _COMMAND_ROOM_BYTES - len(encoded)
        self._buffer[begin:_COMMAND_ROOM_BYTES] = encoded
        return begin

    def _choose_context(self, context_id: int) -> None:
        if context_id != self._context_id:
            self._context_id = context_id
            for head in self._heads:
                self._buffer[head + _CONTEXT_AT] = context_id

    def _write_head(self, head: int, fragment_bytes: int, control: int) -> None:
        pdu.PDU_HEADER.pack_into(self._buffer, head, pdu.P_DATA_TF, fragment_bytes + pdu.PDV_HEADER.size)
        pdu.PDV_HEADER.pack_into(self._buffer, head + pdu.PDU_HEADER.size, fragment_bytes + 2, self._context_id, control)
