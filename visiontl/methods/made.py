"""The terms that a config asks for, made for its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from visiontl.methods.cotuning import make_co_tuning
from visiontl.methods.keeping import make_keep_old
from visiontl.methods.regularizers import make_bss, make_delta, make_l2_sp
from visiontl.methods.teaching import make_teacher
from visiontl.methods.terms import Method, Situation, Term

MAKERS: Mapping[str, Callable[[Situation, Any], Term]] = {
    "l2_sp": make_l2_sp,
    "delta": make_delta,
    "bss": make_bss,
    "co_tuning": make_co_tuning,
    "teacher": make_teacher,
    "keep_old": make_keep_old,
}
"""Key of the section `method` -> what makes its term, or raises ConfigError with the reason why it makes no sense."""


def make_method(here: Situation) -> Method:
    """The task's loss with what the section `method` adds. Raises ConfigError."""
    section, config = here.resolved.config.method, here.resolved.config
    wanted = {key: getattr(section, key) for key in MAKERS if getattr(section, key)}
    terms = [MAKERS[key](here, value) for key, value in wanted.items()]
    for term in terms:
        if term.watches and config.train.compile:
            raise here.refused(
                term.name, "it reads the backbone's features, which train.compile hides; set it to false"
            )
    method = Method(here.meta, terms)
    method.watch(here.backbone)
    return method
