"""File descriptors that systemd keeps for the daemon, or hands to it (sd_listen_fds(3), FDSTORE in sd_notify(3)).

A socket in the store outlives the process: connections that come while nobody serves them wait in the kernel. sdnotify cannot send
descriptors, so this does. Without systemd nothing is handed over and nothing is kept.
"""

from __future__ import annotations

import os
import select
import socket

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_BARRIER_TIMEOUT_S = 5.0


def take_sockets() -> list[tuple[str, socket.socket]]:
    """The sockets handed to this process, each with its name. They are taken once: children are told of none."""
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count.isdecimal():
        return []
    taken = []
    for number in range(int(count)):
        fd = _FIRST_FD + number
        os.set_inheritable(fd, False)
        taken.append((names[number] if number < len(names) else "", socket.socket(fileno=fd)))
    return taken


class DescriptorStore:
    def keep(self, name: str, kept: socket.socket) -> None:
        """Let systemd keep the socket under this name, until it is removed or the service is stopped for good."""
        _send(f"FDSTORE=1\nFDNAME={name}", kept.fileno())

    def remove(self, name: str) -> None:
        """Returns when systemd has closed its copies: from then on another socket can have the port."""
        _send(f"FDSTOREREMOVE=1\nFDNAME={name}")
        ours, theirs = os.pipe()
        try:
            try:
                sent = _send("BARRIER=1", theirs)
            finally:
                os.close(theirs)
            if sent:
                hangup = select.poll()
                hangup.register(ours, 0)  # systemd closes its end once all before has been done
                hangup.poll(_BARRIER_TIMEOUT_S * 1000)
        finally:
            os.close(ours)


def _send(message: str, *fds: int) -> bool:
    """Whether there was anybody to send to. Raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract name
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        socket.send_fds(sender, [message.encode("ascii")], fds)
    return True
