"""The receiver's listening socket across the lives of the daemon.

Systemd keeps it while the daemon restarts, so that who comes meanwhile waits in the kernel instead of being refused. A socket unit may also
bring one; it wins over the configuration, which then cannot say the port. A kept socket that the configuration does not want any more is
given up before another one is bound.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import ReceiverSettings
from mkisod.pacs.listener import is_listening, listens_on
from mkisod.system.descriptors import DescriptorStore

KEPT_NAME = "dicom"


def choose_listener(
    handed: Sequence[tuple[str, socket.socket]], wanted: ReceiverSettings, store: DescriptorStore, log: FilteringBoundLogger
) -> socket.socket | None:
    """Of the sockets that were handed to the daemon the one to use; None: bind one. The others are closed."""
    from_unit = [sock for name, sock in handed if name != KEPT_NAME and is_listening(sock)]
    kept = [sock for name, sock in handed if name == KEPT_NAME]
    wanted_kept = [sock for sock in kept if is_listening(sock) and listens_on(sock, wanted.host, wanted.port)]
    chosen = next(iter([*from_unit, *wanted_kept]), None)
    if chosen is not None:
        origin = "a socket unit" if chosen in from_unit else "systemd, which kept it over the restart"
        log.info("listener_handed_over", port=chosen.getsockname()[1], origin=origin)
    for name, sock in handed:
        if sock is not chosen:
            if name != KEPT_NAME:
                log.warning("listener_ignored", name=name, advice="The receiver takes one TCP socket of a socket unit.")
            sock.close()
    if any(sock is not chosen for sock in kept):
        store.remove(KEPT_NAME)
        if chosen in kept:  # one name for all of them
            store.keep(KEPT_NAME, chosen)
    return chosen
