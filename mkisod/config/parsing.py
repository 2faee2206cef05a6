"""`mkisod.toml` -> `Config`.

Every key has a default, so an empty file is a good one. A wrong file is refused with all its mistakes at once, each with its key and
what to write instead (`ConfigurationInvalid`).
"""

from __future__ import annotations

import operator
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import Attribute, fields
from cattrs.gen import make_dict_structure_fn, override

from mkisod.config.settings import (
    Config,
    DestinationSettings,
    JobSettings,
    MediaSettings,
    MetricsSettings,
    PacsSettings,
    ReceiverSettings,
    SpoolSettings,
    TlsSettings,
)
from mkisod.errors import Code, Permanent

DEFAULT_PATH = Path("/etc/mkisod/mkisod.toml")


class ConfigurationInvalid(Permanent):
    def __init__(self, path: Path, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        listed = "\n".join(f"  {mistake}" for mistake in mistakes)
        super().__init__(Code.CONFIGURATION_INVALID, f"The configuration {path} is not valid:\n{listed}\n")


_SECTIONS: Final = (
    SpoolSettings,
    TlsSettings,
    ReceiverSettings,
    PacsSettings,
    DestinationSettings,
    MediaSettings,
    JobSettings,
    MetricsSettings,
    Config,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _make_converter() -> cattrs.Converter:
    """TOML has types, so nothing is converted: a port written as text is a mistake, and is said to be one."""
    converter = cattrs.Converter(forbid_extra_keys=True)

    def accept(kind: type, article: str) -> None:
        def structure(value: Any, _: Any) -> Any:
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                return float(value)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ValueError(f"write {article}")
            return value

        converter.register_structure_hook(kind, structure)

    for kind, article in ((str, 'text in quotes ("...")'), (int, "a whole number"), (float, "a number"), (bool, "true or false")):
        accept(kind, article)
    for tables, table in ((Mapping[str, PacsSettings], PacsSettings), (Mapping[str, DestinationSettings], DestinationSettings)):
        converter.register_structure_hook_func(partial(operator.eq, tables), _from_tables(converter, table))
    for array, item in ((tuple[str, ...], str), (tuple[float, ...], float)):
        converter.register_structure_hook_func(partial(operator.eq, array), _from_array(converter, item))
    for section in _SECTIONS:
        rules: Any = {a.name: override(struct_hook=_with_rule(converter, a)) for a in fields(section) if "rule" in a.metadata}
        structure = make_dict_structure_fn(section, converter, _cattrs_forbid_extra_keys=True, **rules)
        converter.register_structure_hook(section, _from_table(structure))
    return converter


def _with_rule(converter: cattrs.Converter, attribute: Attribute[Any]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        structured = converter.structure(value, kind)
        attribute.metadata["rule"](structured)
        return structured

    return structure


def _from_table(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def check(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("write a table ([section])")
        return structure(value, kind)

    return check


def _from_tables(converter: cattrs.Converter, table: type) -> Callable[[Any, Any], Any]:
    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("write tables ([section.NAME])")
        return converter.structure(value, dict[str, table])  # type: ignore[valid-type]

    return check


def _from_array(converter: cattrs.Converter, item: type) -> Callable[[Any, Any], Any]:
    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("write a list ([...])")
        return tuple(converter.structure(element, item) for element in value)

    return check


_CONVERTER: Final = _make_converter()


def parse_config(text: str, path: Path) -> Config:
    """The configuration in a text; `path` is for messages. Raises `ConfigurationInvalid` with all mistakes."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationInvalid(path, [f"it is not TOML: {error}"]) from error
    try:
        config = _CONVERTER.structure(document, Config)
    except cattrs.BaseValidationError as error:
        raise ConfigurationInvalid(path, sorted(set(_list_mistakes(error, "")))) from error
    except ValueError as error:
        raise ConfigurationInvalid(path, [str(error)]) from error
    if mistakes := _check_whole(config):
        raise ConfigurationInvalid(path, mistakes)
    return config


def read_config(path: Path) -> Config:
    """Raises `ConfigurationInvalid`, also for a file that cannot be read. Only the default one may be missing: then all is default."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path == DEFAULT_PATH:
            return Config()
        raise ConfigurationInvalid(path, ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(path, [f"it cannot be read: {error}"]) from error
    return parse_config(text, path)


def _check_whole(config: Config) -> list[str]:
    """What no single key shows."""
    mistakes = []
    if not config.pacs:
        mistakes.append("pacs: write at least one [pacs.NAME]")
    for section, table in (("pacs", config.pacs), ("forward", config.forward)):
        mistakes += [f"{section}.{name}: write a name of letters, digits, _ . and -" for name in table if not _NAME.fullmatch(name)]
    if not config.media.output:
        mistakes.append("media.output: write at least one of dir, iso, zip")
    if config.jobs.retry_max_s < config.jobs.retry_first_s:
        mistakes.append("jobs.retry_max_s: write a number of at least jobs.retry_first_s")
    return mistakes


def _list_mistakes(error: BaseException, key: str) -> list[str]:
    """The exceptions of cattrs, a tree, as one line a mistake: `receiver.port: write a whole number`."""
    notes = [n for n in getattr(error, "__notes__", ()) if isinstance(n, cattrs.AttributeValidationNote | cattrs.IterableValidationNote)]
    for note in notes[:1]:
        step = note.name if isinstance(note, cattrs.AttributeValidationNote) else f"{note.index}"
        key = f"{key}.{step}" if key else step
    if isinstance(error, cattrs.BaseValidationError):
        return [mistake for inner in error.exceptions for mistake in _list_mistakes(inner, key)]
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = ", ".join(a.name for a in fields(error.cl))
        return [f"{_join(key, extra)}: there is no such key; there are {known}" for extra in error.extra_fields]
    if isinstance(error, KeyError):
        return [f"{key}: this key must be there"]
    return [f"{key}: {error}"]


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
