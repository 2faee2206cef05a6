"""Which media storage application profile (PS3.11) a volume meets, and what would have to be converted for it. Pure.

A profile is a medium and the transfer syntaxes that it allows; all of those here take every standard SOP class. None allows Implicit
VR, Big Endian, Deflated, RLE or JPEG-LS, and none lets JPEG and JPEG 2000 stand side by side. Blu-ray wants UDF 2.5, so no such profile
is claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from attrs import frozen
from pydicom import uid

from mkisod.media.records import Instance

AS_RECEIVED = "as-received"
AUTO = "auto"

_PLAIN = frozenset({str(uid.ExplicitVRLittleEndian)})
_JPEG = _PLAIN | {str(uid.JPEGBaseline8Bit), str(uid.JPEGExtended12Bit), str(uid.JPEGLosslessSV1)}
_JPEG_2000 = _PLAIN | {str(uid.JPEG2000Lossless), str(uid.JPEG2000)}


@frozen
class Profile:
    name: str
    transfer_syntax_uids: frozenset[str]


# PS3.11 Annexes D, H and J, by medium (volumes.py). A size in MiB counts as a CD.
_PROFILES: Mapping[str, tuple[Profile, ...]] = {
    "cd": (Profile("STD-GEN-CD", _PLAIN),),
    "dvd": (Profile("STD-GEN-DVD-JPEG", _JPEG), Profile("STD-GEN-DVD-J2K", _JPEG_2000)),
    "usb": (Profile("STD-GEN-USB-JPEG", _JPEG), Profile("STD-GEN-USB-J2K", _JPEG_2000)),
}

NAMES = frozenset(profile.name for profiles in _PROFILES.values() for profile in profiles)


@frozen
class Plan:
    """`profile` None: none is met, for this `reason`. `converted` are the instances to convert to Explicit VR Little Endian first."""

    profile: str | None
    converted: tuple[Instance, ...] = ()
    reason: str = ""


def plan_profile(instances: Iterable[Instance], medium: str, wanted: str, convertible: frozenset[str]) -> Plan:
    """What to do for the profile `wanted` (a name, AUTO or AS_RECEIVED), where `convertible` transfer syntaxes can be converted."""
    instances = tuple(instances)
    profiles = [profile for profile in list_profiles(medium) if wanted in (AUTO, AS_RECEIVED, profile.name)]
    if not profiles:
        return Plan(None, reason=f"{wanted} is no profile for the medium {medium}")
    private = next((instance for instance in instances if instance.record_type == "PRIVATE"), None)
    if private is not None:
        return Plan(None, reason=f"SOP instance {private.sop_instance_uid} has a SOP class that no profile knows")
    # The profile that leaves most as it is; of equals the first.
    foreign = [(profile, [i for i in instances if i.transfer_syntax_uid not in profile.transfer_syntax_uids]) for profile in profiles]
    profile, converted = min(foreign, key=lambda pair: len(pair[1]))
    if not converted:
        return Plan(profile.name)
    if wanted == AS_RECEIVED:
        return Plan(None, reason=f"{len(converted)} objects have a transfer syntax that {profile.name} does not allow")
    stuck = next((instance for instance in converted if instance.transfer_syntax_uid not in convertible), None)
    if stuck is not None:
        name = uid.UID(stuck.transfer_syntax_uid).name
        return Plan(None, reason=f"SOP instance {stuck.sop_instance_uid} cannot be converted from {name}")
    return Plan(profile.name, tuple(converted))


def list_profiles(medium: str) -> tuple[Profile, ...]:
    return _PROFILES.get(medium.removesuffix("-dl"), _PROFILES["cd"])


def find_choice_fault(medium: str, profile: str, output: Collection[str]) -> str | None:
    """Why a medium, a profile and kinds of output do not go together, or None."""
    if medium == "usb" and "iso" in output:
        return "the profiles of usb are for FAT, so there is no ISO image for it: ask for dir or zip"
    if profile in (AUTO, AS_RECEIVED):
        return None
    if profile not in NAMES:
        return f"there is no profile {profile}; there are {AUTO}, {AS_RECEIVED}, {', '.join(sorted(NAMES))}"
    if profile not in {known.name for known in list_profiles(medium)}:
        return f"{profile} is no profile for the medium {medium}, which has {', '.join(known.name for known in list_profiles(medium))}"
    return None
