"""Serves one association from its establishment to its end: C-ECHO, C-FIND and C-MOVE, one request after the other."""

from __future__ import annotations

from functools import partial
from io import BytesIO

from mkisod.demo import commands
from mkisod.demo.faults import Faults, Level, Tally
from mkisod.demo.identifiers import MalformedIdentifier, decode_identifier, encode_identifier
from mkisod.demo.index import Instance
from mkisod.demo.move import plan_deliveries, select_instances
from mkisod.demo.query import Refused, answer_query, availability, check_query, listed_archive, shown_archive
from mkisod.demo.send import Move
from mkisod.demo.state import MoveRecord, QueryRecord, State
from mkisod.demo.wire import Association, AssociationEnded, Message

SERVED = {
    commands.C_ECHO_RQ: "1.2.840.10008.1.1",  # Verification
    commands.C_FIND_RQ: "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve Information Model - FIND
    commands.C_MOVE_RQ: "1.2.840.10008.5.1.4.1.2.2.2",  # the same - MOVE
}


def serve(state: State, association: Association) -> None:
    """Answer requests until the association is released. Raises `AssociationEnded` where it ends otherwise."""
    while (message := association.receive()) is not None:
        field = message.command["CommandField"]
        if message.context_id not in association.contexts or "MessageID" not in message.command:
            if field == commands.C_CANCEL_RQ:
                continue  # it came after the end of what it cancels
            association.abort()
            raise AssociationEnded("a message on a presentation context that was not accepted, or without Message ID")
        abstract_syntax_uid = association.contexts[message.context_id][0]
        if not isinstance(field, int) or SERVED.get(field) != abstract_syntax_uid:
            _answer(association, message, commands.UNRECOGNIZED_OPERATION)
        elif field == commands.C_ECHO_RQ:
            _answer(association, message, commands.SUCCESS)
        elif field == commands.C_FIND_RQ:
            _serve_find(state, association, message)
        else:
            _serve_move(state, association, message)


def _answer(association: Association, message: Message, status: int, comment: str = "") -> None:
    more = {"ErrorComment": comment[:64]} if comment else {}
    association.send(message.context_id, commands.answer_to(message.command, status, more))


def _serve_find(state: State, association: Association, message: Message) -> None:
    faults = state.faults
    syntax_uid = association.contexts[message.context_id][1]
    keys: dict[str, str] = {}
    matched, status, comment = 0, commands.SUCCESS, ""
    try:
        keys = decode_identifier(message.data, syntax_uid)
        if keys.get("QueryRetrieveLevel") in faults.silent_levels:
            with state.change(faults) as change:
                association.wait(None, [change])
            return
        query = check_query(keys, faults)
        pending = commands.PENDING_UNSUPPORTED_KEYS if query.unsupported else commands.PENDING
        archive = listed_archive(shown_archive(state.archive, faults, state.tally), faults)
        for values in answer_query(archive, query, state.ae_title, faults, state.tally):
            if matched == faults.listing_limit or _is_cancelled(association, message):
                status = commands.CANCELLED
                break
            data = encode_identifier(values, syntax_uid)
            association.send(message.context_id, commands.answer_to(message.command, pending, data_set=True), BytesIO(data), len(data))
            matched += 1
    except Refused as refused:
        status, comment = refused.dimse_status, str(refused)
    except MalformedIdentifier as malformed:
        status, comment = commands.IDENTIFIER_MISMATCH, str(malformed)
    state.history.append(QueryRecord(association.calling_ae_title, keys, matched, status))
    _answer(association, message, status, comment)


def _is_cancelled(association: Association, message: Message) -> bool:
    if not association.wait(0):
        return False
    other = association.receive()
    if other is None or other.command["CommandField"] != commands.C_CANCEL_RQ:
        raise AssociationEnded("the other side no longer waits for the answers")
    return other.command.get("MessageIDBeingRespondedTo") == message.command["MessageID"]


def _serve_move(state: State, association: Association, message: Message) -> None:
    destination = str(message.command.get("MoveDestination", ""))
    keys: dict[str, str] = {}
    level: Level | None = None
    told = faults = state.faults
    try:
        keys = decode_identifier(message.data, association.contexts[message.context_id][1])
        archive = shown_archive(state.archive, faults, state.tally)
        level, instances = select_instances(archive, keys, faults, state.accession_moves)
        _require_online(instances, faults, state.tally)
        if destination not in state.destinations:
            raise Refused(commands.DESTINATION_UNKNOWN, "the move destination is unknown")
    except (Refused, MalformedIdentifier) as refused:
        status = refused.dimse_status if isinstance(refused, Refused) else commands.IDENTIFIER_MISMATCH
        state.history.append(MoveRecord(association.calling_ae_title, destination, level, keys, (), status))
        _answer(association, message, status, str(refused))
        return
    if instances:
        faults = faults.at_move(state.tally.count_move({instance.study_instance_uid for instance in instances}))
    move = Move(
        state=state,
        told=told,
        faults=faults,
        request=message,
        level=level,
        keys=keys,
        calling_ae_title=association.calling_ae_title,
        destination=destination,
        address=state.destinations[destination],
        asker=None if faults.after_final else association,
        remaining=len(instances),
    )
    deliveries = plan_deliveries(state.archive, instances, faults)
    if faults.after_final:
        claimed: dict[str, commands.Value] = {f"NumberOf{kind}Suboperations": 0 for kind in ("Failed", "Warning")}
        claimed["NumberOfCompletedSuboperations"] = len(instances)
        association.send(message.context_id, commands.answer_to(message.command, commands.SUCCESS, claimed))
        state.spawn(partial(move.run, deliveries), "demo-after-final")
    else:
        move.run(deliveries)


def _require_online(instances: list[Instance], faults: Faults, tally: Tally) -> None:
    for uid in {instance.study_instance_uid for instance in instances}:
        if availability(faults, tally.answers(uid)) != "ONLINE":
            raise Refused(commands.UNABLE_TO_PERFORM, "a study is not on line")
