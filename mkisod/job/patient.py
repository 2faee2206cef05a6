"""Who a study belongs to, and when two answers speak of the same person.

Pure. The rule is the one of docs/contract.md, "One patient": it decides whether a disc mixes two people, so it lives in one place and
is asked for the answers of the PACS, for what the client believes, and for the objects received.
"""

from __future__ import annotations

import re
import unicodedata

from attrs import frozen

# What modalities and gateways write where nobody filled anything in. They identify nobody.
_PLACEHOLDER_IDS = frozenset(
    ["", "0", "00", "000", "0000", "NONE", "NULL", "N/A", "NA", "UNKNOWN", "UNDEFINED", "NOID", "NO ID", "ANONYMOUS", "ANON", "XXX"]
)


@frozen
class PatientIdentity:
    """What identifies a patient in DICOM: (0010,0020), (0010,0021), (0010,0010), (0010,0030); absent values are ''."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""

    @property
    def has_usable_id(self) -> bool:
        return self.patient_id.strip().upper() not in _PLACEHOLDER_IDS


# Letters that Unicode does not decompose into a base letter and a mark.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th"})
_SPACES = re.compile(r"\s+")
# What an archive writes for what its character set cannot spell. In a C-FIND it would be a wild card, so hardly a name has it.
_ILLEGIBLE = re.compile("[?\ufffd]")


def fold_name(name: str) -> tuple[str, str]:
    """Family and given name of a PN value (PS3.5 6.2.1.1), without case, accents, padding and the groups after the first one used.

    The alphabetic group counts; where it is empty, the first group that is not (a name given in ideographs alone).
    """
    groups = [group.strip() for group in name.split("=")]
    group = next((group for group in groups if group.strip("^ ")), "")
    decomposed = unicodedata.normalize("NFKD", group)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold().translate(_LETTERS)
    components = [_SPACES.sub(" ", component).strip() for component in plain.split("^")]
    return components[0], components[1] if len(components) > 1 else ""


def _names_contradict(a: PatientIdentity, b: PatientIdentity) -> bool:
    """Another family *and* another given name: one of the two changes by marriage or by a typing error, both do not."""
    (family_a, given_a), (family_b, given_b) = fold_name(a.name), fold_name(b.name)
    legible = all(part and not _ILLEGIBLE.search(part) for part in (family_a, given_a, family_b, given_b))
    return legible and family_a != family_b and given_a != given_b


def _dates_contradict(a: PatientIdentity, b: PatientIdentity) -> bool:
    return bool(a.birth_date and b.birth_date) and a.birth_date != b.birth_date


def same_patient(a: PatientIdentity, b: PatientIdentity, *, same_study: bool = False) -> bool:
    """Whether two identities agree.

    With usable IDs on both sides the IDs decide, a missing issuer matching any; contradicting birth dates or names under one ID are
    a mismatch all the same. An empty or placeholder ID equals nothing: then name and birth date must both be there and agree. Within
    one study (`same_study`) equal values are enough even if they are empty, since the Study Instance UID holds them together.
    """
    if same_study and a == b:  # what all the instances of a study have in common is found quickly
        return True
    if _dates_contradict(a, b) or _names_contradict(a, b):
        return False
    if a.has_usable_id and b.has_usable_id:
        issuers_agree = not (a.issuer.strip() and b.issuer.strip()) or a.issuer.strip() == b.issuer.strip()
        return a.patient_id.strip() == b.patient_id.strip() and issuers_agree
    if same_study and a.patient_id.strip() == b.patient_id.strip():
        return True
    name_a, name_b = fold_name(a.name), fold_name(b.name)
    return name_a == name_b and any(name_a) and bool(a.birth_date) and a.birth_date == b.birth_date


def group_patients(identities: list[PatientIdentity], *, same_study: bool = False) -> list[list[PatientIdentity]]:
    """The identities by person: in one group every two agree. More than one group: more than one patient.

    Each is one study's, or one instance's. Equal values are no proof: two that say `UNKNOWN` are two people until shown otherwise.
    """
    groups: list[list[PatientIdentity]] = []
    for identity in identities:
        for group in groups:
            if all(same_patient(identity, member, same_study=same_study) for member in group):
                if identity not in group:
                    group.append(identity)
                break
        else:
            groups.append([identity])
    return groups


def contradicts_belief(identity: PatientIdentity, patient_id: str | None, birth_date: str | None) -> bool:
    """Whether an identity speaks against what the client believes. A value that the archive leaves empty does not contradict."""
    if patient_id is not None and identity.patient_id.strip() and identity.patient_id.strip() != patient_id:
        return True
    return birth_date is not None and bool(identity.birth_date) and identity.birth_date != birth_date


def confirms_belief(identities: list[PatientIdentity], patient_id: str | None, birth_date: str | None) -> bool:
    """Whether each believed value was seen at least once. What nobody confirms is not known to be right."""
    ids = {identity.patient_id.strip() for identity in identities}
    dates = {identity.birth_date for identity in identities}
    return (patient_id is None or patient_id in ids) and (birth_date is None or birth_date in dates)
