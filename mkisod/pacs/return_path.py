"""Proof that a PACS knows our AE title and reaches our port: one instance is moved, and what counts is who comes to the port.

Archives answer a C-MOVE that brings nothing alike, whatever is wrong: with success, with warning or with failure. Only A801H is clear. So
the judgement goes by the contacts first, and what cannot be told apart from here is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attrs import frozen

from mkisod.config.settings import PacsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.moves import Move
from mkisod.pacs.contact import Contact
from mkisod.pacs.move import DESTINATION_UNKNOWN, MoveOutcome, RunningMove
from mkisod.pacs.peer import Peer

_LOOK_INTERVAL_S = 0.1  # a person waits at a terminal, for one instance


@frozen
class Trial:
    """What came of moving one instance: the final response, or why there is none, and who came to the port meanwhile."""

    outcome: MoveOutcome | None
    error: MkisodError | None
    contacts: tuple[Contact, ...]


def try_move(
    peer: Peer, settings: PacsSettings, ae_title: str, move: Move, *, read_contacts: Callable[[], Sequence[Contact]], message_id: int
) -> Trial:
    """Move one instance and wait for it: until it came, or until the time-outs of the configuration have passed."""
    running = RunningMove(peer, ae_title, move, destination=ae_title, message_id=message_id, report_change=lambda: None)
    wanted = move.sop_instance_uids

    def has_come() -> bool:
        return any(contact.sop_instance_uid in wanted for contact in read_contacts())

    running.start()
    try:
        _wait(lambda: running.finished, settings.idle_timeout_s)
        if running.outcome is not None:  # some archives answer before they send
            _wait(has_come, settings.first_arrival_s if running.outcome.succeeded and not read_contacts() else settings.grace_s)
    finally:
        running.end()
    return Trial(running.outcome, running.error, tuple(read_contacts()))


def _wait(is_over: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_over() and time.monotonic() < deadline_s:
        time.sleep(_LOOK_INTERVAL_S)


def judge(trial: Trial, peer: Peer, ae_title: str, port: int, move: Move) -> str:
    """What is proven, in one sentence. Raises `MkisodError` that says what is not, and what may be the cause."""
    (uid,) = move.sop_instance_uids
    came = [contact for contact in trial.contacts if contact.sop_instance_uid == uid]
    if came:
        return f"{peer.name} sent an instance from {came[0].peer} as {came[0].calling_ae_title} to {ae_title} on port {port}"
    if trial.outcome is not None and trial.outcome.dimse_status == DESTINATION_UNKNOWN:
        raise Permanent(
            Code.MOVE_DESTINATION_UNKNOWN,
            f"{peer} does not know the AE title {ae_title} (DIMSE status A801H).",
            f"Have {ae_title}, this host and port {port} entered at the PACS as a move destination.",
        )
    if trial.outcome is None:
        raise trial.error or Transient(Code.TIMEOUT, f"{peer} did not end the C-MOVE of one instance in time.")
    answered = f"It answered the C-MOVE with DIMSE status {trial.outcome.dimse_status:04X}H"
    callers = [contact for contact in trial.contacts if not contact.sop_instance_uid]
    accepted = [contact for contact in callers if not contact.refused]
    if accepted:
        contact = accepted[-1]
        return f"{peer.name} reached port {port} from {contact.peer} as {contact.calling_ae_title}, without the instance. {answered}"
    if callers:
        contact = callers[-1]
        called = f", which called {contact.called_ae_title!a} as {contact.calling_ae_title!a}" if contact.called_ae_title else ""
        raise Permanent(
            Code.MOVE_FAILED,
            f"A connection from {contact.peer}{called} reached port {port}, but was not accepted: {contact.refused}. {answered}.",
            f"Compare what the PACS has entered for {ae_title} with [receiver] in the configuration.",
        )
    raise Permanent(
        Code.MOVE_FAILED,
        f"Nobody connected to port {port} when {peer} was to send one instance. {answered}.",
        f"From here three causes look alike: the PACS does not know {ae_title}; it has another host or port for it; a firewall is between. "
        "Compare the PACS's entry with this host and port, then look at the firewall.",
    )
