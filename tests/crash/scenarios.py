"""The lives of requests that are ended at every step."""

from __future__ import annotations

from datetime import timedelta

from mkisod.config.settings import JobSettings
from mkisod.errors import Code
from mkisod.job.status import State
from tests.crash.archive import STUDIES, Archive, Destination
from tests.crash.life import BEGIN, Outcome, Scenario, Word

_DONE = Outcome(State.DONE, ("A1",))
_LACKS_ONE = frozenset(list(STUDIES["A1"])[1:])
_FIRST = frozenset(list(STUDIES["A1"])[:1])
_FORWARD = "A1\n@forward WORKSTATION\n@end\n"
_INCOMPLETE_AT_ONCE = JobSettings(workers=1, not_found_retry_s=(), incomplete_give_up_h=0)

SCENARIOS = (
    Scenario("done", _DONE),
    Scenario("done with the real media room", _DONE, real_disc=True),
    Scenario("two accessions", Outcome(State.DONE, ("A1", "A2")), text="A1\nA2\n@end\n"),
    Scenario("a drop that the client did not sync", _DONE, unsynced=True),
    Scenario("refused", Outcome(State.FAILED, code=Code.ACCESSION_INVALID), text="A*\n@end\n"),
    Scenario("failed", Outcome(State.FAILED, code=Code.ACCESSION_NOT_FOUND), text="A9\n@end\n"),
    Scenario("deferred until the archive is back", _DONE, archive=Archive(up_at=BEGIN + timedelta(seconds=20))),
    Scenario(
        "deferred, and tried again now by the operator",
        _DONE,
        archive=Archive(up_at=BEGIN + timedelta(seconds=20)),
        words=(Word(State.DEFERRED, verb="retry"),),
    ),
    Scenario("cancelled before it begins", Outcome(State.CANCELLED), words=(Word(State.QUEUED, ".cancel"),)),
    Scenario("cancelled while it retrieves", Outcome(State.CANCELLED), words=(Word(State.RETRIEVING, ".cancel"),)),
    Scenario(
        "cancelled while it is deferred",
        Outcome(State.CANCELLED),
        archive=Archive(up_at=BEGIN + timedelta(days=1)),
        words=(Word(State.DEFERRED, ".cancel"),),
    ),
    Scenario(
        "dropped by the operator while it is deferred",
        Outcome(State.CANCELLED),
        archive=Archive(up_at=BEGIN + timedelta(days=1)),
        words=(Word(State.DEFERRED, verb="drop"),),
    ),
    Scenario("stopped while it retrieves, and started again", _DONE, words=(Word(State.RETRIEVING, verb="stop"),)),
    Scenario("a ticket used again", Outcome(State.DONE, ("A2",)), words=(Word(State.DONE, ".req", "A2\n@end\n"),)),
    Scenario(
        "a ticket used again after a failure",
        Outcome(State.DONE, ("A2",)),
        text="A9\n@end\n",
        words=(Word(State.FAILED, ".req", "A2\n@end\n"),),
        leaves_held=True,
    ),
    Scenario(
        "a ticket used again after a failure, all within a second",
        Outcome(State.DONE, ("A2",)),
        text="A9\n@end\n",
        words=(Word(State.FAILED, ".req", "A2\n@end\n"),),
        leaves_held=True,
        tick=timedelta(microseconds=1),
    ),
    Scenario(
        "a ticket used again, and refused",
        Outcome(State.FAILED, code=Code.ACCESSION_INVALID),
        words=(Word(State.DONE, ".req", "A*\n@end\n"),),
        keeps_result=True,
    ),
    Scenario(
        "a ticket used again, and refused, all within a second",
        Outcome(State.FAILED, code=Code.ACCESSION_INVALID),
        words=(Word(State.DONE, ".req", "A*\n@end\n"),),
        keeps_result=True,
        tick=timedelta(microseconds=1),
    ),
    Scenario(
        "incomplete, and published in part",
        Outcome(State.PARTIAL, ("A1",), _LACKS_ONE),
        archive=Archive(withheld=_LACKS_ONE),
        jobs=_INCOMPLETE_AT_ONCE,
        words=(Word(State.FAILED, ".publish"),),
    ),
    Scenario(
        "deferred for want of instances, and published in part",
        Outcome(State.PARTIAL, ("A1",), _LACKS_ONE),
        archive=Archive(withheld=_LACKS_ONE),
        words=(Word(State.DEFERRED, ".publish"),),
    ),
    Scenario(
        "a partial disc from the start",
        Outcome(State.PARTIAL, ("A1",), _LACKS_ONE),
        text="A1\n@allow partial\n@end\n",
        archive=Archive(withheld=_LACKS_ONE),
    ),
    Scenario("failed, and released by the operator", _DONE, archive=Archive(refuses=True), words=(Word(State.FAILED, verb="release"),)),
    Scenario(
        "failed, and dropped by the operator",
        Outcome(State.FAILED, code=Code.ACCESSION_NOT_FOUND),
        text="A9\n@end\n",
        words=(Word(State.FAILED, verb="drop"),),
        dropped=True,
    ),
    Scenario("done, and discarded by the client", Outcome(State.DONE), words=(Word(State.DONE, ".discard"),)),
    Scenario("forwarded", _DONE, text=_FORWARD),
    Scenario(
        "forwarded once the destination is back", _DONE, text=_FORWARD, destination=Destination(up_at=BEGIN + timedelta(seconds=20))
    ),
    Scenario(
        "forwarded but for what the destination refuses",
        Outcome(State.PARTIAL, ("A1",), code=Code.FORWARD_FAILED),
        text=_FORWARD,
        destination=Destination(refuses=_FIRST),
    ),
    Scenario(
        "given up for a destination that stays away",
        Outcome(State.PARTIAL, ("A1",), code=Code.FORWARD_FAILED),
        text=_FORWARD,
        destination=Destination(up_at=BEGIN + timedelta(days=9)),
        jobs=JobSettings(workers=1, not_found_retry_s=(), give_up_after_h=0.02),
    ),
    Scenario(
        "a partial disc, forwarded",
        Outcome(State.PARTIAL, ("A1",), _LACKS_ONE, Code.INCOMPLETE),
        text="A1\n@allow partial\n@forward WORKSTATION\n@end\n",
        archive=Archive(withheld=_LACKS_ONE),
    ),
    Scenario(
        "cancelled while it forwards",
        Outcome(State.PARTIAL, ("A1",), code=Code.CANCELLED),
        text=_FORWARD,
        words=(Word(State.FORWARDING, ".cancel"),),
    ),
    Scenario(
        "cancelled while it waits for a destination",
        Outcome(State.PARTIAL, ("A1",), code=Code.CANCELLED),
        text=_FORWARD,
        destination=Destination(up_at=BEGIN + timedelta(days=1)),
        words=(Word(State.FORWARDING, ".cancel"),),
    ),
    Scenario(
        "dropped by the operator while it waits for a destination",
        Outcome(State.PARTIAL, ("A1",), code=Code.CANCELLED),
        text=_FORWARD,
        destination=Destination(up_at=BEGIN + timedelta(days=1)),
        words=(Word(State.FORWARDING, verb="drop"),),
    ),
    Scenario("stopped while it forwards, and started again", _DONE, text=_FORWARD, words=(Word(State.FORWARDING, verb="stop"),)),
    Scenario(
        "discarded while it forwards, and once that is over",
        Outcome(State.DONE),
        text=_FORWARD,
        words=(Word(State.FORWARDING, ".discard"),),
    ),
)
