"""The metrics of a real daemon, as node_exporter's textfile collector finds them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mkisod.demo.pacs import DemoPacs
from tests.integration.survival.site import AE_TITLE, Site, lines, make_site, write_archive
from tests.processes import HOST, free_port, wait_for

Samples = dict[tuple[str, str], float]


def read(path: Path) -> Samples:
    """Name and labels (but for the daemon's) -> value. None of it may be half there."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return {
        (sample.name, ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "daemon")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    write_archive(folder, "ACC1", count=5)
    return folder


def make(tmp_path: Path, pacs: DemoPacs, port: int, textfile: Path) -> Site:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, spool={"scan_interval_s": 0.5}, jobs={"not_found_retry_s": []})
    return Site(site.folder, f'{site.config}\n[metrics]\ntextfile = "{textfile}"\n', site.port)


def test_a_disc_and_a_failure_are_counted(archive: Path, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "metrics" / "mkisod.prom"
    path.parent.mkdir()
    with DemoPacs(archive, destinations={AE_TITLE: (HOST, port)}) as pacs, make(tmp_path, pacs, port, path).daemon() as daemon:
        wait_for(path.exists, 30, "the first file")
        assert read(path)["mkisod_jobs_finished_total", "outcome=done"] == 0
        daemon.drop("t", lines("ACC1"))
        size_bytes = daemon.wait_status("t", "done")["progress"]["bytes_received"]
        daemon.drop("nothing", lines("NOWHERE"))
        daemon.wait_status("nothing", "failed")
        wait_for(lambda: read(path)["mkisod_jobs_finished_total", "outcome=failed"] == 1, 30, "the failure to be counted")
        samples = read(path)
        assert list(path.parent.iterdir()) == [path]
    expected = {
        ("mkisod_jobs_claimed_total", ""): 2,
        ("mkisod_jobs_finished_total", "outcome=done"): 1,
        ("mkisod_failures_total", "code=accession_not_found"): 1,
        ("mkisod_jobs", "state=failed"): 1,
        ("mkisod_jobs", "state=queued"): 0,
        ("mkisod_jobs", "state=retrieving"): 0,
        ("mkisod_instances_received_total", ""): 5,
        ("mkisod_received_bytes_total", ""): size_bytes,
        ("mkisod_moves_total", "dimse_status=0000,pacs=ABPACS"): 1,
        ("mkisod_retrieval_duration_seconds_count", "pacs=ABPACS"): 1,
        ("mkisod_assembly_duration_seconds_count", ""): 1,
        ("mkisod_job_duration_seconds_count", ""): 1,
        ("mkisod_association_events_total", "event=accepted"): 1,
        ("mkisod_queue_oldest_age_seconds", ""): 0,
    }
    assert expected.items() <= samples.items()
    assert samples["mkisod_spool_free_bytes", ""] > 0
    assert samples["mkisod_last_retrieval_timestamp_seconds", "pacs=ABPACS"] > samples["mkisod_start_time_seconds", ""]


def test_a_file_that_cannot_be_written_is_one_warning_and_no_more(archive: Path, tmp_path: Path) -> None:
    """The disc is made all the same, and the metrics come once there is a place for them."""
    port, path = free_port(), tmp_path / "metrics" / "mkisod.prom"
    with DemoPacs(archive, destinations={AE_TITLE: (HOST, port)}) as pacs:
        site = make(tmp_path, pacs, port, path)
        with site.daemon() as daemon:
            for ticket in ("one", "two"):
                daemon.drop(ticket, lines("ACC1"))
                daemon.wait_status(ticket, "done")
            (warning,) = site.events("metrics_not_written")
            assert (warning["level"], warning["path"]) == ("warning", str(path))
            path.parent.mkdir()
            wait_for(path.exists, 30, "the file")
            assert read(path)["mkisod_jobs_finished_total", "outcome=done"] == 2
