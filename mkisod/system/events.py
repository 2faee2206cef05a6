"""What happens, in words: every event that mkisod logs, how grave it is, and the sentence that a person reads.

One table. `docs/journal.md` is drawn from it, and a test holds it to the code: an event that is logged and not listed, or listed and not
logged, or logged at another level, fails. Pure: events are names and fields.

A sentence names fields in braces. Sizes, durations and lists are written for people; what is not known is said to be unknown. Text that
came from elsewhere is shown without control characters and cut short, so that nobody writes into a terminal through a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import frozen

_MOST_LISTED = 5
_MOST_CHARACTERS = 500


@frozen
class Kind:
    """`level`: debug, info, warning, error or critical; or `varies`: info, but warning or worse with an error in it."""

    level: str
    sentence: str


_WHAT_CAME = "instances {instances} ({size_bytes}) of {accessions}"

EVENTS: Final[Mapping[str, Kind]] = {
    # The life of a request, in its order.
    "job_claimed": Kind("info", "Request taken over from uid {owner_uid}: {accessions}."),
    "job_refused": Kind("warning", "Request of uid {owner_uid} refused: {problem}"),
    "job_taken": Kind("info", "Attempt {attempt} begins."),
    "studies_found": Kind("info", "{pacs} lists for {accessions}: studies {studies}, instances {instances}."),
    "studies_changed": Kind("info", "{pacs} lists more than before: studies {studies}, instances missing {missing}. They are moved too."),
    "move_finished": Kind(
        "info", "C-MOVE from {pacs} ended within {duration_s} with DIMSE status {dimse_status}, instances arrived: {arrived}."
    ),
    "listing_put_off": Kind("info", "{pacs} does not list while it moves, and is asked again when the C-MOVE is over. {problem}"),
    "job_retrieved": Kind("info", "Retrieved from {pacs} within {duration_s}: " + _WHAT_CAME + "."),
    "job_assembled": Kind("info", "Disc assembled and checked within {duration_s}, volumes: {volumes}."),
    "job_published": Kind("info", "Published, {age_s} after the claim, for uid {owner_uid}, in {directory}: " + _WHAT_CAME + "."),
    "job_published_partial": Kind(
        "warning", "Published as partial for uid {owner_uid}, in {directory}: " + _WHAT_CAME + ", missing {missing}. {problem}"
    ),
    "job_published_to_forward": Kind(
        "varies", "Published, {age_s} after the claim, for uid {owner_uid}, in {directory}, to be forwarded: " + _WHAT_CAME + ". {problem}"
    ),
    "job_kept": Kind("info", "What came is synced, since it is to be forwarded."),
    "job_taken_to_forward": Kind("varies", "Forwarding begins. {problem}"),
    "instances_forwarded": Kind("info", "Sent to {destination} for uid {owner_uid}: {sent}, refused for good: {failed}. {problem}"),
    "job_forwarded": Kind("info", "Every destination has every instance."),
    "job_forwarded_partial": Kind("warning", "The disc stands, but not all of it was forwarded. {problem}"),
    "job_deferred": Kind("warning", "Attempt {attempt} failed, the next one begins at {retry_at}. {problem}"),
    "job_due": Kind("info", "Queued again for attempt {attempt}."),
    "job_failed": Kind("varies", "Failed for good. {problem}"),
    "job_left_incomplete": Kind("warning", "Given up, what came is kept. {problem}"),
    "job_cancelled": Kind("info", "Cancelled."),
    "job_postponed": Kind("info", "Given back to the queue, since another job retrieves one of its studies."),
    "job_stopped": Kind("info", "Given back to the queue, since the daemon stops."),
    "job_recovered": Kind("info", "Found {found} at the start of the daemon, and goes on from there."),
    "job_released": Kind("info", "Released: it is queued again for attempt {attempt}."),
    "job_dropped": Kind("info", "What was kept of the failed job is removed."),
    "job_hit_defect": Kind("error", "A defect of mkisod ended the attempt. Please report it with these lines."),
    "job_unreadable": Kind("error", "The job in {directory} cannot be read and is put aside: {reason}"),
    # Results and statuses.
    "result_deleted": Kind("info", "Result of job {job} deleted from the outbox, results: {results} ({reason})."),
    "result_not_discarded": Kind("warning", "The request is {state}, not finished: its result cannot be discarded yet."),
    "result_missing": Kind("warning", "The published result is gone or says nothing of itself. It is forwarded all the same."),
    "result_unreadable": Kind("error", "The published result says nothing of itself and is made once more: {reason}"),
    "status_deleted": Kind("info", "Status and results of job {job} deleted, results: {results} ({reason})."),
    "status_unreadable": Kind("warning", "The status of this ticket cannot be read: {reason}"),
    "status_written_again": Kind("info", "The status is written again: {state}."),
    # The inbox and the spool.
    "control_refused": Kind("warning", "{control} of uid {uid} does not count and is removed. {advice}"),
    "inbox_file_ignored": Kind("warning", "{name} in the inbox is no request, or not of the one who owns the ticket; it is left alone."),
    "inbox_not_watched": Kind("warning", "The inbox cannot be watched: {reason}. {advice}"),
    "inbox_watch_died": Kind("warning", "The watch of the inbox died. {advice}"),
    "spool_full": Kind("error", "The spool has too little room. {advice}"),
    "spool_has_room": Kind("info", "The spool has room again."),
    "disk_full": Kind("error", "The disk is full in the middle of a step. {advice}"),
    "metrics_not_written": Kind("warning", "The metrics cannot be written to {path}: {reason}. The work goes on."),
    # The receiver.
    "listener_handed_over": Kind("info", "Port {port} was handed over by {origin}: no connection is lost."),
    "listener_ignored": Kind("warning", "The socket {name} that was handed over is not used. {advice}"),
    "receiver_bound": Kind("info", "{ae_title} has port {port}."),
    "receiver_stopped": Kind("info", "The receiver has stopped after {associations_accepted} connections."),
    "receiver_failed": Kind("error", "The receiver accepts no connections any more."),
    "connection_not_accepted": Kind("error", "A connection could not be accepted: {reason}."),
    "association_accepted": Kind("debug", "Association {association} of {calling_ae_title} at {peer} accepted ({implementation})."),
    "association_released": Kind("debug", "Association {association} of {calling_ae_title} at {peer} released: {instances} instances."),
    "association_rejected": Kind("warning", "{calling_ae_title} at {peer} was rejected: {why}."),
    "association_aborted": Kind("warning", "The association of {calling_ae_title} at {peer} was aborted by us: {why}."),
    "association_aborted_by_peer": Kind("warning", "{calling_ae_title} at {peer} aborted after {instances} instances."),
    "association_lost": Kind("warning", "The association of {calling_ae_title} at {peer} was lost: {why}."),
    "association_failed": Kind("error", "A defect of mkisod ended an association with {peer}. Please report it with these lines."),
    "associations_left": Kind("error", "{count} connections could not be ended."),
    "tls_handshake_failed": Kind("warning", "No TLS with {peer}: {why}."),
    "request_refused": Kind("warning", "{calling_ae_title} at {peer} asked for what is not served: {comment} ({dimse_status}H)."),
    "instance_refused": Kind("warning", "Instance {sop_instance_uid} of {calling_ae_title} refused: {comment} ({dimse_status}H)."),
    "instances_refused": Kind("warning", "{count} instances of {calling_ae_title} at {peer} were refused on this association."),
    # The daemon.
    "daemon_ready": Kind("info", "{ae_title} listens on port {port} and serves {spool}."),
    "converters_missing": Kind("warning", "Not installed: {programs}. {advice}"),
    "configuration_reloaded": Kind("varies", "Configuration read again. Changed: {changed}. Needs a restart: {needs_restart}."),
    "configuration_not_reloaded": Kind("error", "Configuration not read again. {problem}"),
    "word_not_left": Kind("warning", "The word for a mkisod check could not be left: {reason}."),
    "daemon_stopping": Kind("info", "The daemon stops: {reason}."),
    "daemon_stopped": Kind("info", "The daemon has stopped."),
    "thread_died": Kind("critical", "The thread {thread} died, and the daemon goes down with it. Please report it with these lines."),
    "thread_silent": Kind("critical", "The thread {thread} has been silent for {seconds} seconds. It hangs where these lines say."),
    "library_message": Kind("varies", "{library}: {said}"),
}


def describe(event: str, fields: Mapping[str, Any]) -> str:
    """The sentence about an event. One that is not in the table is told by its name, and by what it carries of a problem."""
    kind = EVENTS.get(event)
    sentence = kind.sentence if kind else event.replace("_", " ") + "." + (" {problem}" if "message" in fields else "")
    said = sentence.format_map(_Shown(fields)).rstrip()
    ticket = fields.get("ticket")
    return f"{_show('ticket', ticket)}: {said}" if ticket else said


class _Shown(dict[str, str]):
    """Fields as a sentence shows them."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__({key: _show(key, value) for key, value in fields.items()})
        if "message" in fields:
            code = f" [{self['error']}]" if "error" in fields else ""
            self["problem"] = " ".join(self[key] for key in ("message", "advice") if fields.get(key)) + code

    def __missing__(self, key: str) -> str:
        return "" if key == "problem" else "unknown"


def _show(key: str, value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list | tuple):
        shown = ", ".join(_show("", item) for item in value[:_MOST_LISTED])
        return shown + (f" and {len(value) - _MOST_LISTED} more" if len(value) > _MOST_LISTED else "") if value else "none"
    if key.endswith("_bytes") and isinstance(value, int | float):
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"
    if key.endswith("_s") and isinstance(value, int | float):
        return f"{value:.1f} s"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    text = " ".join(str(value).splitlines())
    shown = "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
    return shown if len(shown) <= _MOST_CHARACTERS else shown[:_MOST_CHARACTERS] + "..."


def draw_table() -> str:
    """The table of events in docs/journal.md, in Markdown."""
    rows = [f"| `{name}` | {kind.level} | {kind.sentence} |" for name, kind in EVENTS.items()]
    return "\n".join(["| event | level | what it says |", "|---|---|---|", *rows]) + "\n"
