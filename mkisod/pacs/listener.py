"""The listening socket: made, or found to be the one that is wanted."""

from __future__ import annotations

import errno
import socket
from typing import Final

from mkisod.errors import Code, Permanent

# Who comes while the daemon restarts waits here. The kernel cuts it to net.core.somaxconn.
_BACKLOG: Final = 4096


def listen(host: str, port: int) -> socket.socket:
    """Raises `Permanent` with one sentence that says why not."""
    try:
        if not host:
            dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if dual else socket.AF_INET
            return socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        family, address = _resolve(host, port)
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Permanent(Code.PORT_UNAVAILABLE, f"Port {port} is already in use.") from error
        where = f"{host}:{port}" if host else f"port {port}"
        advice = "Give the receiver an address of this machine and a port it may use."
        raise Permanent(Code.PORT_UNAVAILABLE, f"The receiver cannot listen on {where}: {error.strerror}.", advice) from error


def is_listening(sock: socket.socket) -> bool:
    """Whether it is a TCP socket that connections can be accepted from."""
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def listens_on(sock: socket.socket, host: str, port: int) -> bool:
    """Whether a listening socket is what `listen` would make. Port 0 is any."""
    address = sock.getsockname()
    bound_host, bound_port = str(address[0]), int(address[1])
    if port not in (0, bound_port):
        return False
    if not host:
        return bound_host == ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104 - compared, not bound
    try:
        return _resolve(host, port)[1] == bound_host
    except OSError:
        return False


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """The first address of a host. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, str(address[0])
