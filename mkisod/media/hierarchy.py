"""Puts instances in their places: patient, study, series, instance (PS3.3 F.4), in the order of the disc. Pure.

One PATIENT record for each person, one STUDY record for each Study Instance UID, one SERIES record for each Series Instance UID (F.5.1
to F.5.3). What one instance lacks and a record needs comes from its siblings or is stood in for; every stand-in is reported. File IDs
are numbered in the order of the records, so that a reader who follows the DICOMDIR never seeks backwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import evolve, frozen
from pydicom import charset

from mkisod.media.dicomdir import DirectoryRecord
from mkisod.media.encoding import Elements
from mkisod.media.keys import FALLBACKS, KEYS, NO_DATE, NO_TIME, TAGS, Key
from mkisod.media.records import Instance, Substitution, parse_number

_SPECIFIC_CHARACTER_SET = 0x00080005
_PATIENT_ID = 0x00100020
_STUDY_DATE = 0x00080020
_STUDY_TIME = 0x00080030
_SERIES_NUMBER = 0x00200011
_INSTANCE_NUMBER = 0x00200013


@frozen
class PlacedInstance:
    """An instance and its File ID, with a backslash between the components."""

    instance: Instance
    file_id: str


class Leaves(Sequence[DirectoryRecord]):
    """The leaf records of one folder. Each is made when it is asked for: of all of them only the instances are held."""

    def __init__(self, prefix: str, instances: Iterable[Instance]) -> None:
        self._prefix, self._instances = prefix, tuple(instances)

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, place: int) -> DirectoryRecord:  # type: ignore[override]
        instance = self._instances[place]
        return DirectoryRecord(instance.record_type, instance.leaf, self._make_file_id(place))

    def list_files(self) -> Iterator[PlacedInstance]:
        return (PlacedInstance(instance, self._make_file_id(place)) for place, instance in enumerate(self._instances))

    def _make_file_id(self, place: int) -> str:
        return f"{self._prefix}{place + 1:06d}"


@frozen
class Hierarchy:
    """A file-set: its records, and the folders of its files in the same order."""

    roots: tuple[DirectoryRecord, ...]
    folders: tuple[Leaves, ...]
    substitutions: tuple[Substitution, ...]
    warnings: tuple[str, ...]

    @property
    def files(self) -> Iterator[PlacedInstance]:
        return (placed for folder in self.folders for placed in folder.list_files())

    @property
    def number_of_files(self) -> int:
        return sum(len(folder) for folder in self.folders)


def build_hierarchy(patients: Sequence[Sequence[Instance]], rootless: Sequence[Instance] = ()) -> Hierarchy:
    """`patients` are the instances of each person; `rootless` are those that stand at the root, without a patient."""
    builder = _Builder()
    people = [sorted(instances, key=_by_study) for instances in patients]
    people.sort(key=lambda instances: _find_patient_id(instances)[0])
    roots = [builder.add_patient(number, instances) for number, instances in enumerate(people, 1)]
    roots += builder.add_leaves("DICOM\\OT", sorted(rootless, key=lambda i: (i.record_type, i.sop_instance_uid)))
    return Hierarchy(tuple(roots), tuple(builder.folders), tuple(builder.substitutions), tuple(builder.warnings))


class _Builder:
    """Collects folders, substitutions and warnings while the records are made from the top down."""

    def __init__(self) -> None:
        self.folders: list[Leaves] = []
        self.substitutions: list[Substitution] = []
        self.warnings: list[str] = []

    def add_patient(self, number: int, instances: Sequence[Instance]) -> DirectoryRecord:
        patient_id, source = _find_patient_id(instances)
        elements = dict(source.patient)
        for study_uid, other in {i.study_instance_uid: i for i in instances if i.patient.get(_PATIENT_ID) != patient_id}.items():
            reason = "the study has no Patient ID" if _PATIENT_ID not in other.patient else "another study of this person has this ID"
            self.substitutions.append(Substitution("PATIENT", "PatientID", patient_id.decode("latin-1"), reason, study_uid))
        elements[_PATIENT_ID] = patient_id
        self._warn_of_differences("PATIENT", f"patient of study {source.study_instance_uid}", [i.patient for i in instances])
        studies = [list(study) for study in _group(instances, lambda i: i.study_instance_uid)]
        moments = [_find_study_moment(study) for study in studies]
        order = sorted(range(len(studies)), key=lambda n: (moments[n], studies[n][0].study_instance_uid))
        folder = f"DICOM\\PT{number:06d}"
        lower = [self._add_study(f"{folder}\\ST{place:06d}", studies[n], moments[n]) for place, n in enumerate(order, 1)]
        return DirectoryRecord("PATIENT", elements, lower=lower)

    def _add_study(self, folder: str, instances: Sequence[Instance], moment: tuple[bytes, bytes]) -> DirectoryRecord:
        study_uid = instances[0].study_instance_uid
        elements = dict(_find_most_complete("STUDY", [i.study for i in instances]))
        self._warn_of_differences("STUDY", f"study {study_uid}", [i.study for i in instances])
        for tag, keyword, value, none in (
            (_STUDY_DATE, "StudyDate", moment[0], NO_DATE),
            (_STUDY_TIME, "StudyTime", moment[1], NO_TIME),
        ):
            if tag not in elements:
                reason = "no instance of the study has one" if value.decode() == none else "the earliest that an instance of the study has"
                elements[tag] = value
                self.substitutions.append(Substitution("STUDY", keyword, value.decode("latin-1"), reason, study_uid))
        self._stand_in("STUDY", "StudyID", elements, study_uid, siblings=[i.study for i in instances])
        series = [list(members) for members in _group(instances, lambda i: i.series_instance_uid)]
        tops = [dict(_find_most_complete("SERIES", [i.series for i in members])) for members in series]
        order = sorted(range(len(series)), key=lambda n: (parse_number(tops[n].get(_SERIES_NUMBER)), series[n][0].series_instance_uid))
        numbers = _NextFree(top.get(_SERIES_NUMBER) for top in tops)
        lower = [self._add_series(f"{folder}\\SE{place:06d}", series[n], tops[n], numbers) for place, n in enumerate(order, 1)]
        return DirectoryRecord("STUDY", elements, lower=lower)

    def _add_series(self, folder: str, instances: Sequence[Instance], elements: dict[int, bytes], numbers: _NextFree) -> DirectoryRecord:
        study_uid, series_uid = instances[0].study_instance_uid, instances[0].series_instance_uid
        self._warn_of_differences("SERIES", f"series {series_uid}", [i.series for i in instances])
        siblings = [i.series for i in instances]
        self._stand_in("SERIES", "Modality", elements, study_uid, series_uid, siblings=siblings)
        self._stand_in("SERIES", "SeriesNumber", elements, study_uid, series_uid, siblings=siblings, numbers=numbers)
        numbered = [(instance.leaf.get(_INSTANCE_NUMBER), instance) for instance in instances]
        numbered.sort(key=lambda pair: (parse_number(pair[0]), pair[1].sop_instance_uid))
        ordered = [instance for _, instance in numbered]
        without = [place for place, (number, one) in enumerate(numbered) if number is None and _needs_number(one.record_type)]
        if without:
            free = _NextFree(number for number, _ in numbered)
            for place in without:
                instance, number = ordered[place], free.take()
                ordered[place] = evolve(instance, leaf=instance.leaf.add(_INSTANCE_NUMBER, number))
                self.substitutions.append(
                    Substitution(
                        instance.record_type,
                        "InstanceNumber",
                        number.decode(),
                        "the next free one in the series",
                        study_uid,
                        series_uid,
                        instance.sop_instance_uid,
                    )
                )
        return DirectoryRecord("SERIES", elements, lower=self.add_leaves(f"{folder}\\IN", ordered))

    def add_leaves(self, prefix: str, instances: Iterable[Instance]) -> Leaves:
        leaves = Leaves(prefix, instances)
        self.folders.append(leaves)
        self.substitutions.extend(substitution for placed in leaves.list_files() for substitution in placed.instance.substitutions)
        return leaves

    def _stand_in(
        self,
        record_type: str,
        keyword: str,
        elements: dict[int, bytes],
        study_uid: str,
        series_uid: str = "",
        *,
        siblings: Sequence[Elements],
        numbers: _NextFree | None = None,
    ) -> None:
        """What the record needs and the instance that it follows does not have: what another one has, else what stands for nothing."""
        if (tag := TAGS[keyword]) in elements:
            return
        if (value := _find_in_siblings(tag, elements, siblings)) is not None:
            reason = "another instance has it"
        elif numbers is not None:
            value, reason = numbers.take(), "the next free one in the study"
        else:
            text, reason = FALLBACKS[keyword]
            value = text.encode()
        elements[tag] = value
        self.substitutions.append(Substitution(record_type, keyword, value.decode("latin-1"), reason, study_uid, series_uid))

    def _warn_of_differences(self, record_type: str, name: str, all_elements: Sequence[Elements]) -> None:
        """One record cannot repeat what its instances disagree about. Names the keys only: a value could be a patient's name."""
        distinct = list({id(elements): elements for elements in all_elements}.values())
        for key in KEYS[record_type]:
            if key.tag != _SPECIFIC_CHARACTER_SET and len({_decode(elements, key) for elements in distinct if elements.get(key.tag)}) > 1:
                self.warnings.append(f"The instances of {name} have different values of {key.keyword}; the record follows one.")


def _find_in_siblings(tag: int, elements: Elements, siblings: Sequence[Elements]) -> bytes | None:
    """The first value that one of them has, in ASCII or in the character set of `elements`."""
    character_set = elements.get(_SPECIFIC_CHARACTER_SET)
    for other in {id(other): other for other in siblings}.values():
        value = other.get(tag)
        if value is not None and (value.isascii() or other.get(_SPECIFIC_CHARACTER_SET) == character_set):
            return value
    return None


class _NextFree:
    """Numbers that no sibling has, from 1 upwards."""

    def __init__(self, taken: Iterable[bytes | None]) -> None:
        self._taken = {parse_number(value) for value in taken}
        self._next = 1

    def take(self) -> bytes:
        while self._next in self._taken:
            self._next += 1
        self._next += 1
        return str(self._next - 1).encode()


def _find_patient_id(instances: Sequence[Instance]) -> tuple[bytes, Instance]:
    """The Patient ID of a person and the instance that supplies the record. Without any ID, the first Study Instance UID stands in: it
    is unique, so that two people without an ID never become one (PS3.3 F.5.1).
    """
    for source in sorted(instances, key=lambda i: not i.identity.has_usable_id):
        if _PATIENT_ID in source.patient:
            return source.patient[_PATIENT_ID], source
    return instances[0].study_instance_uid.encode(), instances[0]


def _find_study_moment(instances: Sequence[Instance]) -> tuple[bytes, bytes]:
    """Date and time of a study: its own, else the earliest that an instance has, else an impossible one."""
    own = _find_most_complete("STUDY", [i.study for i in instances])
    date, time = own.get(_STUDY_DATE, b""), own.get(_STUDY_TIME, b"")
    moments = sorted((d.encode(), t.encode()) for d, t in {i.moment for i in instances} if d and date in (b"", d.encode()))
    date = date or (moments[0][0] if moments else NO_DATE.encode())
    times = [t for d, t in moments if d == date and t]
    return date, time or (times[0] if times else NO_TIME.encode())


def _find_most_complete(record_type: str, all_elements: Sequence[Elements]) -> Elements:
    """The keys of the instance that has most of them: a record follows one instance, whose character set its texts have."""
    distinct = {id(elements): elements for elements in all_elements}
    return max(distinct.values(), key=lambda elements: sum(1 for key in KEYS[record_type] if elements.get(key.tag)))


def _needs_number(record_type: str) -> bool:
    return any(key.tag == _INSTANCE_NUMBER and key.type == "1" for key in KEYS[record_type])


def _by_study(instance: Instance) -> tuple[str, str, str]:
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid


def _group(instances: Iterable[Instance], uid_of: Callable[[Instance], str]) -> Iterable[list[Instance]]:
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[uid_of(instance)].append(instance)
    return groups.values()


# The VRs whose bytes mean what Specific Character Set says (PS3.5 6.1.2.2), and what brings the first one of several back (6.1.2.5.3).
_CHARACTER_SET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D, 0x5C}


def _decode(elements: Elements, key: Key) -> str | bytes:
    """A value as something to compare: one name in two character sets is one name. What cannot be decoded is compared as it is."""
    value = elements[key.tag]
    if key.vr not in _CHARACTER_SET_VRS or (value.isascii() and charset.ESC not in value):
        return value.decode("ascii", "surrogateescape").rstrip(" \0")
    names = elements.get(_SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace").split("\\")
    encodings = [charset.python_encoding[name.strip()] for name in names if name.strip() in charset.python_encoding]
    try:
        return charset.decode_bytes(value, encodings or [charset.default_encoding], _DELIMITERS).rstrip(" \0")
    except (UnicodeError, LookupError):
        return value
