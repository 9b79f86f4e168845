"""Measure every timm and torchvision architecture on the meta device and write the catalog of backbones.

    python tools/catalog.py                    all of them, about 20 minutes on one core; resumable
    python tools/catalog.py --jobs 4           in four processes
    python tools/catalog.py --only 'timm/resnet*'    measure these again; the other rows stay

Rows are kept one file each in --work until the table is written, so a stopped run goes on where it was,
and several runs may share the folder.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
from pathlib import Path

from visiontl.backbones import catalog
from visiontl.backbones.catalog import COLUMNS, PATH, Row, write_line
from visiontl.backbones.registry import source
from visiontl.errors import VisionTLError

STALE_CLAIM = 1800  # seconds after which a claim is taken for that of a run that died


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--work", type=Path, default=Path("build/catalog"), help="folder of finished rows")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default=None, help="pattern on the full name")
    parser.add_argument("--again", action="store_true", help="forget finished rows first")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pattern = options.only or "*"
    if options.again:
        for old in options.work.glob("*.tsv"):
            if fnmatch.fnmatchcase(old.stem.replace("@", "/"), pattern):
                old.unlink()
    helpers = [
        subprocess.Popen([sys.executable, __file__, "--work", options.work, "--only", pattern, "--out", os.devnull])
        for _ in range(options.jobs - 1)
    ]
    names = [name for name in all_names() if fnmatch.fnmatchcase(name, pattern)]
    for count, name in enumerate(names):
        if work_on(name, options.work):
            print(f"{count + 1}/{len(names)} {name}", flush=True)
    failed = [helper.args for helper in helpers if helper.wait()]
    if failed:
        print(f"{len(failed)} helper processes failed; run again to go on", file=sys.stderr)
        return 1
    if str(options.out) == os.devnull:
        return 0
    missing = [name for name in names if not place(options.work, name).exists()]
    if missing:
        print(f"{len(missing)} rows are still being measured elsewhere, such as {missing[0]}", file=sys.stderr)
        return 1
    rows = {} if options.only is None else {n: write_line(r) for n, r in catalog.read(options.out).rows.items()}
    rows |= {name: place(options.work, name).read_text(encoding="utf-8").rstrip("\n") for name in names}
    write(options.out, [rows[name] for name in sorted(rows)])
    print(f"{len(rows)} rows in {options.out}")
    return 0


def all_names() -> list[str]:
    """Full names, torchvision's first: they are few."""
    import timm
    from torchvision import models

    torchvision = [f"torchvision/{name}" for name in models.list_models(module=models)]
    return torchvision + [f"timm/{name}" for name in timm.list_models()]


def place(work: Path, name: str) -> Path:
    return work / f"{name.replace('/', '@')}.tsv"


def work_on(name: str, work: Path) -> bool:
    """Measure one architecture unless it is done, or claimed by another process."""
    done, claim = place(work, name), place(work, name).with_suffix(".claim")
    if done.exists():
        return False
    if claim.exists() and time.time() - claim.stat().st_mtime > STALE_CLAIM:
        claim.unlink(missing_ok=True)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        partial = done.with_suffix(f".{os.getpid()}")
        partial.write_text(write_line(measured(name)) + "\n", encoding="utf-8")
        partial.replace(done)
    finally:
        claim.unlink(missing_ok=True)
    return True


def measured(name: str) -> Row:
    """One row, from a build on the meta device. What cannot serve keeps the reason."""
    library, _, arch = name.partition("/")
    module = source(library)
    tags = module.tags(arch)
    spec = module.default_spec(arch)
    try:
        plan = module.make_plan(arch)
    except VisionTLError as error:
        return Row(name, size=spec.size, problem=str(error).removeprefix(f"{name} "), weights=tags)
    finally:
        module.make_plan.cache_clear()
    geometry = plan.geometry
    sizing = f"multiple:{geometry.pad_to}" if geometry.sizing == "multiple" else geometry.sizing
    return Row(
        name, plan.parameters, geometry.embed_dim, geometry.channels, geometry.strides, spec.size, sizing, "", tags
    )


def write(out: Path, lines: list[str]) -> None:
    import timm
    import torchvision

    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__}
    first = "# " + " ".join(f"{library}={version.partition('+')[0]}" for library, version in versions.items())
    partial = out.with_suffix(".partial")
    partial.write_text("\n".join([first, "\t".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    partial.replace(out)


if __name__ == "__main__":
    raise SystemExit(main())
