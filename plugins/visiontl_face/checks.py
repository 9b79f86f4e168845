from __future__ import annotations


def check(cfg, data, meta, seen):
    return []
