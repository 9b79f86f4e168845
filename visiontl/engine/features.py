"""Features of the images of a split: from the store where they are there, computed where they are not.

    source = Source(resolved, backbone, placement, console)      # placement: as `device.place` gives it
    found = features_of(source, Wanted("train", split, Ask(pooled=True), batch_size=32))
    found.pooled                                                 # (images, embed_dim); found.samples: all but the image

Ask, Source and Wanted are in `engine/wanted.py`. The config's `features:` section says where they are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.filling import Filling, first_reason
from visiontl.engine.wanted import Source, Wanted
from visiontl.features.store import Store
from visiontl.processes import ranks


def features_of(source: Source, wanted: Wanted) -> FeatureCache | str:
    """Every rank gets all of them; what is missing they compute together, each its share. A string says why there are
    none: too large, or not the same size for all images. Raises DataError for a photo that cannot be read."""
    section = source.resolved.config.features
    source.backbone.eval()
    reason = ""
    if section.cache in ("auto", "disk"):
        store, reason = ranks.agree(lambda: open_store(source))
        reason = first_reason(reason)
        if store is not None and not reason:
            found = Filling(source, wanted, store).fill()
            if not isinstance(found, str):
                return found
            reason = found
        if section.cache == "disk":
            return reason
        source.console.say(f"features of {wanted.name} are kept in memory alone: {reason}", keep=True)
    return Filling(source, wanted, None).fill()


def open_store(source: Source) -> tuple[Store | None, str]:
    """The store on disk; or why there can be none."""
    section = source.resolved.config.features
    try:
        folder = store_folder(section.folder)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # no home
        return None, f"the folder of features.folder cannot be made ({error})"
    if not os.access(folder, os.W_OK):
        return None, f"{folder} may not be written to"
    return Store(folder, int(section.limit * 2**30), source.console.warn), ""


def store_folder(given: str | None) -> Path:
    """features.folder, or what VISIONTL_FEATURES names, or where this user's programs keep what they can make again."""
    given = given or os.environ.get("VISIONTL_FEATURES")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "visiontl" / "features"
