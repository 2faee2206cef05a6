"""The configuration: an empty file is a good one, and a wrong one is refused with all its mistakes at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st

from mkisod.config import parsing
from mkisod.config.parsing import ConfigurationInvalid, parse_config, read_config
from mkisod.config.settings import Config, DestinationSettings, PacsSettings, TlsSettings
from mkisod.errors import Code

PATH = Path("mkisod.toml")


def find_mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationInvalid) as refused:
        parse_config(text, PATH)
    assert refused.value.code is Code.CONFIGURATION_INVALID
    assert all(mistake in refused.value.message for mistake in refused.value.mistakes)
    return refused.value.mistakes


def test_an_empty_file_is_the_receiver_of_the_old_scripts() -> None:
    config = parse_config("", PATH)
    assert config == Config()
    assert (config.receiver.ae_title, config.receiver.port) == ("CDRECORD", 10104)
    assert config.default_pacs == "ABPACS"
    assert config.pacs == {"ABPACS": PacsSettings(host="localhost", port=11112, ae_title="ABPACS")}
    assert config.forward == {}
    assert (config.media.output, config.media.medium, config.jobs.workers) == (("dir", "iso"), "cd", 2)


def test_every_default_may_be_written_out() -> None:
    def write(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return f"[{', '.join(map(write, value))}]"
        return f'"{value}"' if isinstance(value, str) else repr(value)

    lines = []
    for section, values in asdict(Config()).items():
        tables = {f"{section}.{name}": table for name, table in values.items()} if section in ("pacs", "forward") else {section: values}
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {write(value)}" for key, value in table.items() if value is not None)]
    assert parse_config("\n".join(lines), PATH) == Config()


def test_what_is_written_counts_and_whole_numbers_are_numbers() -> None:
    text = """
[spool]
settle_s = 5
[pacs.FIRST]
port = 104
[pacs.SECOND]
[forward.WS]
host = "172.16.0.120"
[receiver]
allowed_hosts = ["10.1.0.0", "pacs.example"]
"""
    config = parse_config(text, PATH)
    assert config.spool.settle_s == 5.0
    assert config.default_pacs == "FIRST"
    assert list(config.pacs) == ["FIRST", "SECOND"]
    assert config.pacs["FIRST"].port == 104
    assert config.forward == {"WS": DestinationSettings(host="172.16.0.120")}
    assert config.receiver.allowed_hosts == ("10.1.0.0", "pacs.example")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("receiver.port = 'x'", "receiver.port: write a whole number"),
        ("receiver.port = true", "receiver.port: write a whole number"),
        ("receiver.port = 1.5", "receiver.port: write a whole number"),
        ("receiver.port = 65536", "receiver.port: write a number from 0 to 65535"),
        ("pacs.A.port = 0", "pacs.A.port: write a number from 1 to 65535"),
        ("spool.settle_s = -1", "spool.settle_s: write a number of at least 0"),
        ("spool.settle_s = true", "spool.settle_s: write a number"),
        ("spool.settle_s = nan", "spool.settle_s: write a number of at least 0"),
        ("spool.scan_interval_s = inf", "spool.scan_interval_s: write a number from 0.1 to 86400"),
        ("jobs.not_found_retry_s = [30, -1]", "jobs.not_found_retry_s: write a number of at least 0.1"),
        ("jobs.not_found_retry_s = 30", "jobs.not_found_retry_s: write a list ([...])"),
        ("jobs.not_found_retry_s = ['x']", "jobs.not_found_retry_s: write a number"),
        ("spool.dir = 'spool'", "spool.dir: write an absolute path"),
        ("spool.dir = ''", "spool.dir: write an absolute path"),
        ("spool.instance = '../x'", "spool.instance: write 1 to 32 letters, digits, - or _"),
        ("spool.instance = ''", "spool.instance: write 1 to 32 letters, digits, - or _"),
        ("spool.require_end = 1", "spool.require_end: write true or false"),
        ("spool = 3", "spool: write a table ([section])"),
        ("receiver.ae_title = ''", "receiver.ae_title: write an AE title of 1 to 16 ASCII characters, without backslash"),
        ("receiver.ae_title = ' A'", "receiver.ae_title: write an AE title of 1 to 16 ASCII characters, without backslash"),
        ("receiver.ae_title = 'ABCDEFGHIJKLMNOPQ'", "receiver.ae_title: write an AE title of 1 to 16 ASCII characters, without backslash"),
        ("receiver.ae_title = 'A\\B'", "receiver.ae_title: write an AE title of 1 to 16 ASCII characters, without backslash"),
        ("receiver.allowed_calling_ae_titles = ['A', 'Ä']", "receiver.allowed_calling_ae_titles: write an AE title of 1 to 16 ASCII"),
        ("receiver.allowed_calling_ae_titles = 'A'", "receiver.allowed_calling_ae_titles: write a list ([...])"),
        ("receiver.allowed_hosts = [1]", 'receiver.allowed_hosts: write text in quotes ("...")'),
        ("pacs = 1", "pacs: write tables ([section.NAME])"),
        ("pacs.A = 1", "pacs.A: write a table ([section])"),
        ("[pacs]", "pacs: write at least one [pacs.NAME]"),
        ("[pacs.'a/b']", "pacs.a/b: write a name of letters, digits, _ . and -"),
        ("[forward.'x y']\nhost = 'h'", "forward.x y: write a name of letters, digits, _ . and -"),
        ("pacs.A.query = 'all'", "pacs.A.query: write instances or counts or none"),
        ("pacs.A.host = ''", "pacs.A.host: write a host name or an address"),
        ("[forward.WS]", "forward.WS.host: this key must be there"),
        ("pacs.A.hots = 'x'", "pacs.A.hots: there is no such key; there are host, port"),
        ("nothing = 1", "nothing: there is no such key; there are spool, receiver, pacs"),
        ("media.output = []", "media.output: write at least one of dir, iso, zip"),
        ("media.output = ['tar']", "media.output: write dir or iso or zip"),
        ("media.medium = 'floppy'", "media.medium: write cd, dvd, dvd-dl, usb or a size in MiB, as text"),
        ("media.medium = '٣'", "media.medium: write cd, dvd, dvd-dl, usb or a size in MiB, as text"),
        ("jobs.workers = 0", "jobs.workers: write a number from 1 to 64"),
        ("jobs.retry_first_s = 1000", "jobs.retry_max_s: write a number of at least jobs.retry_first_s"),
        ("receiver.port = ", "it is not TOML: "),
        ("a = 1\na = 2", "it is not TOML: "),
    ],
)
def test_a_mistake_is_named_by_its_key(text: str, mistake: str) -> None:
    (found,) = find_mistakes(text)
    assert found.startswith(mistake)


def test_all_mistakes_are_named_at_once() -> None:
    text = "[receiver]\nport = 'x'\nae_title = ''\nhots = 1\n[pacs.A]\nport = 0\nquery = 'x'\n[jobs]\nworkers = 0\n[x]"
    keys = [mistake.partition(":")[0] for mistake in find_mistakes(text)]
    assert keys == sorted(["receiver.port", "receiver.ae_title", "receiver.hots", "pacs.A.port", "pacs.A.query", "jobs.workers", "x"])


def test_tls_has_a_certificate_and_a_key_or_only_an_authority() -> None:
    text = '[receiver.tls]\ncertificate = "/c.pem"\nkey = "/k.pem"'
    assert parse_config(text, PATH).receiver.tls == TlsSettings("/c.pem", "/k.pem", "")


toml_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text("abc/.:* 1", max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(["port", "host", "A", "tls", "x"]), values, max_size=3),
    max_leaves=6,
)


def write_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return "'" + value.replace("'", "") + "'"
        case dict():
            return "{" + ", ".join(f"{key} = {write_toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(write_toml, value)) + "]"
        case _:
            return repr(value)


@given(st.dictionaries(st.sampled_from([*asdict(Config()), "x"]), toml_values), st.text(max_size=20))
def test_whatever_is_written_there_is_a_configuration_or_a_list_of_mistakes(document: dict[str, object], text: str) -> None:
    for candidate in ("\n".join(f"{key} = {write_toml(value)}" for key, value in document.items()), text):
        try:
            parse_config(candidate, PATH)
        except ConfigurationInvalid as refusal:
            mistakes = refusal.mistakes
        else:
            continue
        assert mistakes
        assert all(": " in mistake for mistake in mistakes)


def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationInvalid, match=str(path)):
            read_config(path)
    (tmp_path / "latin").write_bytes(b"# \xff")
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        read_config(tmp_path / "latin")
    monkeypatch.setattr(parsing, "DEFAULT_PATH", tmp_path / "missing")
    assert read_config(tmp_path / "missing") == Config()


def test_what_the_documentation_shows_is_a_configuration() -> None:
    """The keys of the documents are the keys of the program."""
    root = Path(__file__).parents[3]
    for page in sorted((root / "docs").glob("*.md")):
        for block in page.read_text(encoding="utf-8").split("```toml\n")[1:]:
            text = block.partition("```")[0]
            tomllib.loads(text)
            parse_config(text, page)
