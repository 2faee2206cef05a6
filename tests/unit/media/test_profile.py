"""Which profile is met, and what is converted for it."""

from __future__ import annotations

import pytest
from attrs import evolve
from pydicom import uid

from mkisod.media.header import read_header
from mkisod.media.profile import AS_RECEIVED, AUTO, plan_profile
from mkisod.media.records import Instance, describe_instance
from tests.media.objects import make_object, write_object

EVERYTHING = frozenset(map(str, uid.AllTransferSyntaxes))
PLAIN, IMPLICIT = uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian
JPEG, J2K, RLE = uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.RLELossless


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return describe_instance(read_header(write_object(make_object(), tmp_path_factory.mktemp("object") / "object")))


@pytest.mark.parametrize(
    ("medium", "wanted", "syntaxes", "profile", "converted"),
    [
        ("cd", AUTO, [PLAIN, PLAIN], "STD-GEN-CD", []),
        ("cd", AUTO, [PLAIN, JPEG, IMPLICIT], "STD-GEN-CD", [JPEG, IMPLICIT]),
        ("650", AUTO, [PLAIN], "STD-GEN-CD", []),
        ("dvd", AUTO, [PLAIN, JPEG], "STD-GEN-DVD-JPEG", []),
        ("dvd-dl", AUTO, [PLAIN, J2K], "STD-GEN-DVD-J2K", []),
        ("dvd", AUTO, [JPEG, J2K, J2K], "STD-GEN-DVD-J2K", [JPEG]),
        ("usb", AUTO, [JPEG, JPEG, J2K, RLE], "STD-GEN-USB-JPEG", [J2K, RLE]),
        ("usb", "STD-GEN-USB-J2K", [JPEG, JPEG, J2K], "STD-GEN-USB-J2K", [JPEG, JPEG]),
        ("cd", "STD-GEN-USB-J2K", [PLAIN], None, []),
        ("cd", AS_RECEIVED, [PLAIN], "STD-GEN-CD", []),
        ("cd", AS_RECEIVED, [PLAIN, JPEG], None, []),
        ("dvd", AS_RECEIVED, [PLAIN, JPEG], "STD-GEN-DVD-JPEG", []),
    ],
)
def test_the_profile_that_leaves_most_as_it_is(  # noqa: PLR0917 - a table of cases
    template: Instance, medium: str, wanted: str, syntaxes: list[uid.UID], profile: str | None, converted: list[uid.UID]
) -> None:
    plan = plan_profile([evolve(template, transfer_syntax_uid=str(syntax)) for syntax in syntaxes], medium, wanted, EVERYTHING)
    assert (plan.profile, [instance.transfer_syntax_uid for instance in plan.converted]) == (profile, converted)
    assert bool(plan.reason) is (profile is None)


def test_what_cannot_be_converted_is_named(template: Instance) -> None:
    plan = plan_profile([evolve(template, transfer_syntax_uid=str(uid.HTJ2KLossless))], "cd", AUTO, frozenset({str(JPEG)}))
    assert plan.profile is None
    assert template.sop_instance_uid in plan.reason


def test_a_private_sop_class_meets_no_profile(template: Instance) -> None:
    assert plan_profile([evolve(template, record_type="PRIVATE")], "cd", AUTO, EVERYTHING).profile is None
