"""Which presentation contexts instances need, and which one each goes by. Pure.

For each SOP class one context for each transfer syntax that is held, and one each for Explicit and Implicit VR Little Endian (PS3.5
section 10.1), into which a destination may want things converted. What needs more than 128 contexts goes by several associations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mkisod.pacs.negotiation import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    LOSSLESS,
)
from mkisod.pacs.pdu import ContextResult, ProposedContext
from mkisod.pacs.requested import MOST_CONTEXTS
from mkisod.pacs.stored import StoredInstance

_PLAIN = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
# From these a conversion to a plain one loses nothing. Whether there is a converter is another matter.
_CONVERTIBLE = LOSSLESS | {*_PLAIN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}


def plan_associations(instances: Iterable[StoredInstance]) -> Iterator[tuple[list[ProposedContext], list[StoredInstance]]]:
    """What to propose in each association, and what to send by it, in the order given."""
    held: dict[str, dict[str, list[StoredInstance]]] = {}
    for instance in instances:
        held.setdefault(instance.sop_class_uid, {}).setdefault(instance.transfer_syntax_uid, []).append(instance)
    proposed: list[tuple[str, str]] = []
    group: list[StoredInstance] = []
    for sop_class_uid, by_syntax in held.items():
        for syntaxes in _split(list(by_syntax)):
            pairs = [(sop_class_uid, syntax) for syntax in dict.fromkeys((*syntaxes, *_PLAIN))]
            if len(proposed) + len(pairs) > MOST_CONTEXTS:
                yield _number(proposed), group
                proposed, group = [], []
            proposed += pairs
            group += [instance for syntax in syntaxes for instance in by_syntax[syntax]]
    if group:
        yield _number(proposed), group


def _split(syntaxes: list[str]) -> Iterator[list[str]]:
    room = MOST_CONTEXTS - len(_PLAIN)
    return (syntaxes[start : start + room] for start in range(0, len(syntaxes), room))


def _number(pairs: Sequence[tuple[str, str]]) -> list[ProposedContext]:
    return [ProposedContext(2 * number + 1, sop_class, (syntax,)) for number, (sop_class, syntax) in enumerate(pairs)]


def choose_context(contexts: Mapping[int, ContextResult], instance: StoredInstance) -> ContextResult | None:
    """The context by which an instance goes: as it is, else converted without loss; None where the destination takes it neither way."""
    own, sop_class_uid = instance.transfer_syntax_uid, instance.sop_class_uid
    accepted = {context.transfer_syntax_uid: context for context in contexts.values() if context.abstract_syntax_uid == sop_class_uid}
    return next((accepted[syntax] for syntax in (own, *(_PLAIN if own in _CONVERTIBLE else ())) if syntax in accepted), None)


def explain_refusal(contexts: Mapping[int, ContextResult], instance: StoredInstance) -> str:
    """Why there is no context for it."""
    if not any(context.abstract_syntax_uid == instance.sop_class_uid for context in contexts.values()):
        return f"the destination does not take the SOP class {instance.sop_class_uid}"
    return (
        f"the destination does not take the transfer syntax {instance.transfer_syntax_uid}, and without loss it cannot be converted"
        " to one that it takes"
    )
