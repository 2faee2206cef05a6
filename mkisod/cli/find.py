"""`mkisod find ACCESSION`: what the PACS would send. No names: an accession number, its studies, their series, their counts."""

from __future__ import annotations

import argparse
import json

from mkisod.cli.options import add_config, add_json
from mkisod.config.parsing import read_config
from mkisod.errors import Code, Permanent
from mkisod.job.manifest import SeriesListing, StudyListing
from mkisod.job.request import find_accession_fault
from mkisod.pacs.find import find_studies, list_study
from mkisod.pacs.peer import make_peer
from mkisod.pacs.questions import Questions
from mkisod.system.journal import make_quiet_log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("accession", metavar="ACCESSION")
    parser.add_argument("--pacs", metavar="NAME", help="a PACS of the configuration (default: the first)")


def run(arguments: argparse.Namespace) -> int:
    make_quiet_log()
    config = read_config(arguments.config)
    name = arguments.pacs or config.default_pacs
    if name not in config.pacs:
        raise Permanent(Code.PACS_UNKNOWN, f"There is no PACS called {name} in the configuration, which has {', '.join(config.pacs)}.")
    if fault := find_accession_fault(arguments.accession):
        raise Permanent(Code.ACCESSION_INVALID, f"{arguments.accession!a}: {fault}.")
    peer = make_peer(name, config.pacs[name])
    with Questions(peer, config.receiver.ae_title) as questions:
        studies = [list_study(questions, study) for study in find_studies(questions, arguments.accession)]
    print(json.dumps([_to_json(study) for study in studies], indent=1) if arguments.json else "\n".join(map(_to_text, studies)))
    return 0


def _count(study: StudyListing) -> int:
    """What is listed, or counted where the listing is shorter than that."""
    return max(sum(map(_count_series, study.series)), study.number_of_instances or 0)


def _count_series(series: SeriesListing) -> int:
    return max(len(series.sop_instance_uids), series.number_of_instances or 0)


def _to_json(study: StudyListing) -> dict[str, object]:
    return {
        "accession": study.accession,
        "study_instance_uid": study.study_instance_uid,
        "modalities": list(study.modalities),
        "instances": _count(study),
        "evidence": study.evidence,
        "series": [
            {"series_instance_uid": s.series_instance_uid, "modality": s.modality, "instances": _count_series(s)} for s in study.series
        ],
    }


def _to_text(study: StudyListing) -> str:
    lines = [f"study {study.study_instance_uid}: {', '.join(study.modalities)}, {len(study.series)} series, {_count(study)} instances"]
    lines += [f"  series {s.series_instance_uid}: {s.modality}, {_count_series(s)} instances" for s in study.series]
    lines += [f"  not every SOP Instance UID is listed: {study.doubt}"] if study.doubt else []
    return "\n".join(lines)
