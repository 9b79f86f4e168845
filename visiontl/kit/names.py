"""Names that look alike: the one form by which they are compared. Imports no torch.

`é` can be stored as one sign or as two (macOS stores two), a blank can be one at which no line breaks, and signs of no
width cannot be seen at all; so two names that a person reads as one can be two for the program.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from visiontl.kit.words import count, some, told
from visiontl.report.items import Finding

HYPHENS = dict.fromkeys(map(ord, "\u2010\u2011"), "-")  # the second is one at which no line breaks
LEFT_OUT = ("Pd", "Pc", "Zs")  # dashes, underscores, blanks
ALIKE = "the model has to tell them apart; if they are the same, merge them"  # of classes


def compared(name: str, loose: bool = False) -> str:
    """The form in which two names are compared: equal for names that differ in their Unicode form (NFC, NFD), in
    capitals, in kinds and number of blanks, or in signs of no width alone.

    loose: also in blanks, dashes and underscores at all, and in the shape of signs (full width, superscript): for a
    suggestion, not for a judgment.
    """
    if not (
        name.isascii() and name.isprintable()
    ):  # signs of no width go first, for they keep others from being composed
        name = "".join(sign for sign in name if not _unseen(sign)).translate(HYPHENS)
        name = unicodedata.normalize("NFKD" if loose else "NFD", name).casefold()
        name = unicodedata.normalize("NFKC" if loose else "NFC", name)
    plain = " ".join(name.casefold().split())
    return "".join(sign for sign in plain if unicodedata.category(sign) not in LEFT_OUT) if loose else plain


def by_form(names: Iterable[str]) -> dict[str, str]:
    """{name as it is, and in NFC: name}, to look up what a file may name in another Unicode form; of two names of one
    form each is found as it is alone."""
    names = list(names)
    forms: dict[str, set[str]] = {}
    for name in names:
        forms.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    return {
        **{form: next(iter(same)) for form, same in forms.items() if len(same) == 1},
        **{name: name for name in names},
    }


def in_form(name: str, known: Mapping[str, str]) -> str | None:
    """The name of `by_form` that is meant, or None."""
    return known.get(name) or known.get(unicodedata.normalize("NFC", name))


def _unseen(sign: str) -> bool:
    """Whether a sign has no width: joiners, marks of direction and order, selectors of a variant."""
    category = unicodedata.category(sign)
    return category == "Cf" or (category == "Cc" and not sign.isspace()) or "\ufe00" <= sign <= "\ufe0f"


def alike(names: Iterable[str], loose: bool = False) -> list[list[str]]:
    """Groups of different names with one form, each in its plain sorted order, by their first."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(compared(name, loose), set()).add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def told_apart(group: Sequence[str]) -> str:
    """Names that look alike, so that a person sees what differs: 'Anna' and 'anna'; signs beyond ASCII as numbers where
    nothing else tells: 'Jose\\u0301' and 'Jos\\xe9'."""
    shown = [repr(name) for name in group]
    same = len({unicodedata.normalize("NFC", name).translate(HYPHENS) for name in shown}) < len(shown)
    return " and ".join(told(ascii(name) if same else one) for name, one in zip(group, shown, strict=True))


def alike_findings(noun: str, names: Iterable[str], effect: str, loose: bool = False) -> list[Finding]:
    """A warning of `doctor` on names that look alike, or none. noun: what they name. effect: what comes of it."""
    groups = alike(names, loose)
    if not groups:
        return []
    number = sum(map(len, groups))
    what = f"{count(number, noun)} whose names look alike"
    return [Finding("warning", what, effect, [told_apart(group) for group in groups])]


def alike_notes(noun: str, names: Iterable[str], effect: str, loose: bool = False) -> list[str]:
    """The same as a note on a data set; `doctor` leaves it out where it has the warning."""
    return [f"{one.what} ({some(one.names)}): {one.consequence}" for one in alike_findings(noun, names, effect, loose)]
