"""How long the pending responses of a C-MOVE may be left lying."""

from __future__ import annotations

import pytest

from mkisod.pacs import command as dimse
from mkisod.pacs.move import find_pause_s


@pytest.mark.parametrize(("remaining", "pause_s"), [(None, 0), (0, 0), (1, 0.0002), (100, 0.02), (250, 0.05), (65535, 0.05)])
def test_the_fewer_remain_the_shorter_is_the_pause(remaining: int | None, pause_s: float) -> None:
    assert find_pause_s(remaining) == pytest.approx(pause_s)


def test_a_response_says_how_many_remain() -> None:
    request = dimse.Command(field=dimse.C_MOVE_RQ, message_id=7, has_data_set=True)
    raw = dimse.encode_response(request, 0xFF00)
    assert dimse.decode_command(raw).remaining is None
    counted = dimse.decode_command(raw + b"\0\0\x20\x10\2\0\0\0\x2a\0\0\0\x21\x10\2\0\0\0\3\0")
    assert (counted.remaining, counted.completed) == (42, 3)
