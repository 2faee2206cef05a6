"""Series of any length for tests and benches: one instance is encoded, the others are its bytes with a few places written over.

Each instance has its own UID, instance number, position and first pixels, and is as conformant as the phantom's. Twenty thousand take as
long as the disk does.
"""

from __future__ import annotations

import struct
from pathlib import Path

from attrs import frozen

from mkisod.demo.head import CT_VALUES, MR_VALUES, draw_slice
from mkisod.demo.objects import SLICE_DISTANCE_MM, Patient, StudyHead, encode_object, make_image, make_uid
from mkisod.demo.phantom import phantom_patient

_MOST_INSTANCES = 999_999
_FIRST_SUFFIX = 1_000_000  # a component of a UID has no leading zeros, so the last one counts from here: seven digits always
_NUMBER = 312_501  # of the instance that is encoded: as many digits as any of the others needs, in every place


@frozen
class WrittenSeries:
    """What was written. The SOP Instance UIDs are in the order of the instance numbers."""

    accession: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    patient: Patient


def write_series(
    folder: Path,
    *,
    accession: str,
    count: int,
    modality: str = "CT",
    rows: int = 128,
    columns: int = 128,
    seed: int = 1,
    study: str = "",
    series: str = "",
    series_number: int = 1,
    patient: Patient | None = None,
    character_set: str = "ISO_IR 192",
) -> WrittenSeries:
    """Write `count` CT or MR instances of `rows` x `columns` x 16 bits into `folder`, which is made.

    Study and series are those of the seed and of the names `study` (default: the accession number) and `series` (default: the modality), so
    that several calls may add series to one study. Raises ValueError for more than 999,999 instances or too small a frame, OSError.
    """
    if not 0 <= count <= _MOST_INSTANCES or rows * columns < 2:
        raise ValueError(f"a series has 0 to {_MOST_INSTANCES} instances of at least 2 pixels here")
    study, series = study or accession, series or modality
    study_uid, series_uid = make_uid(seed, f"study/{study}"), make_uid(seed, f"study/{study}/{series}")
    head = StudyHead(
        patient=patient or phantom_patient(seed),
        study_instance_uid=study_uid,
        accession=accession,
        study_id="1",
        date="20260105",
        time="081500",
        description=f"{modality} head",
        character_set=character_set,
    )
    image = make_image(
        head,
        modality,
        series_instance_uid=series_uid,
        frame_of_reference_uid=make_uid(seed, f"study/{study}/frame"),
        sop_instance_uid=_instance_uid(series_uid, _NUMBER),
        number=_NUMBER,
        position_mm=_NUMBER * SLICE_DISTANCE_MM,
        rows=rows,
        columns=columns,
        pixels=draw_slice(rows, columns, 0.2, CT_VALUES if modality == "CT" else MR_VALUES),
        series_number=series_number,
    )
    folder.mkdir(parents=True, exist_ok=True)
    encoded = bytearray(encode_object(image))
    uid_places, number_place, position_places = _find_places(encoded, _instance_uid(series_uid, _NUMBER))
    pixels_place = len(encoded) - rows * columns * 2
    for number in range(1, count + 1):
        for place in uid_places:
            encoded[place : place + 7] = b"%d" % (_FIRST_SUFFIX + number)
        encoded[number_place : number_place + 6] = b"%06d" % number
        for place in position_places:
            encoded[place : place + 9] = b"%09.1f" % (number * SLICE_DISTANCE_MM)
        encoded[pixels_place : pixels_place + 4] = struct.pack("<HH", number & 0xFFF, number >> 12)  # 12 bits are stored in each
        (folder / f"{number:06}.dcm").write_bytes(encoded)
    uids = tuple(_instance_uid(series_uid, number) for number in range(1, count + 1))
    return WrittenSeries(accession, study_uid, series_uid, uids, head.patient)


def _instance_uid(series_instance_uid: str, number: int) -> str:
    return f"{series_instance_uid}.{_FIRST_SUFFIX + number}"


def _find_places(encoded: bytearray, uid: str) -> tuple[list[int], int, list[int]]:
    """Where the last component of the UID, the instance number and the position stand, each where its element is and nowhere else."""
    position = b"%09.1f" % (_NUMBER * SLICE_DISTANCE_MM)
    meta_uid, own_uid = (encoded.index(tag + b"UI") for tag in (b"\x02\x00\x03\x00", b"\x08\x00\x18\x00"))
    number = encoded.index(b"\x20\x00\x13\x00IS") + 8
    places = [encoded.index(position, encoded.index(tag + b"DS")) for tag in (b"\x20\x00\x32\x00", b"\x20\x00\x41\x10")]
    return [encoded.index(uid.encode(), place) + len(uid) - 7 for place in (meta_uid, own_uid)], number, places
