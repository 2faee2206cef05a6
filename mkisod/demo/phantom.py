"""A synthetic patient with two accessions, written as a folder of Part 10 files: nobody's data, always the same for one seed.

The first study is a CT series and a structured report about it, in UTF-8; the second an MR series and an encapsulated PDF, in Latin-1: one
patient whose name is spelled in two character sets, as archives hold it.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from mkisod.demo.head import CT_VALUES, MR_VALUES, draw_slice
from mkisod.demo.objects import (
    SLICE_DISTANCE_MM,
    Patient,
    StudyHead,
    encode_object,
    make_document,
    make_image,
    make_pdf,
    make_report,
    make_uid,
)

CT_ACCESSION = "PHANTOM.CT.1"
MR_ACCESSION = "PHANTOM.MR.1"


@frozen
class Phantom:
    """What was written: the patient, and the number of instances for each accession."""

    patient: Patient
    instances: dict[str, int]


def phantom_patient(seed: int) -> Patient:
    """The patient of this seed."""
    return Patient(name="Phantôme^Zoë", patient_id=f"PHANTOM{seed}", issuer="MKISOD", birth_date="19700401", sex="F")


def write_phantom(
    folder: Path, *, seed: int, ct_slices: int = 40, mr_slices: int = 24, rows: int = 128, columns: int = 128
) -> Phantom:
    """Write the patient's two studies below `folder`, one folder for each study. Raises OSError."""
    patient = phantom_patient(seed)
    ct = StudyHead(patient, make_uid(seed, "ct"), CT_ACCESSION, "1", "20260105", "081500", "CT head")
    mr = StudyHead(patient, make_uid(seed, "mr"), MR_ACCESSION, "2", "20260107", "141000", "MR head", character_set="ISO_IR 100")
    for head, modality, slices, values in ((ct, "CT", ct_slices, CT_VALUES), (mr, "MR", mr_slices, MR_VALUES)):
        (folder / modality).mkdir(parents=True, exist_ok=True)
        for number in range(1, slices + 1):
            image = make_image(
                head,
                modality,
                series_instance_uid=make_uid(seed, f"{modality}/series"),
                frame_of_reference_uid=make_uid(seed, f"{modality}/frame"),
                sop_instance_uid=make_uid(seed, f"{modality}/{number}"),
                number=number,
                position_mm=(number - 1) * SLICE_DISTANCE_MM,
                rows=rows,
                columns=columns,
                pixels=draw_slice(rows, columns, (2 * number - 1) / slices - 1, values),
            )
            (folder / modality / f"{number:04}.dcm").write_bytes(encode_object(image))
            if modality == "CT" and number == slices // 2 + 1:
                text = "Computed head of ellipsoids. One small lesion, which is part of the phantom."
                report = make_report(ct, make_uid(seed, "report/series"), make_uid(seed, "report"), text, image)
                (folder / "CT" / "report.dcm").write_bytes(encode_object(report))
    pdf = make_pdf(["Synthetic patient", f"Accession {MR_ACCESSION}", "This document was computed. It describes nobody."])
    document = make_document(mr, make_uid(seed, "document/series"), make_uid(seed, "document"), "Letter", pdf)
    (folder / "MR" / "letter.dcm").write_bytes(encode_object(document))
    return Phantom(patient, {CT_ACCESSION: ct_slices + 1, MR_ACCESSION: mr_slices + 1})
