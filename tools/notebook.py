"""Runs the cells of a notebook in order, in a temporary folder and in this process, and writes what they show into it.

    python tools/notebook.py [docs/first_steps.ipynb]

No kernel is needed: a stand-in for IPython takes the displays. tests/core/test_first_steps.py runs the cells in the
same way.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "first_steps.ipynb"


class Cell(io.TextIOBase):
    """What one cell shows, as a notebook's file holds it: printed text and displays in their order."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        if not self.outputs or self.outputs[-1]["output_type"] != "stream":
            self.outputs.append({"output_type": "stream", "name": "stdout", "text": ""})
        self.outputs[-1]["text"] += text
        return len(text)

    def display(self, value: Any, display_id: bool = False) -> Any:
        """In the place of IPython's `display`: with an id the display can be changed."""
        shown = {"output_type": "display_data", "data": bundle(value), "metadata": {}}
        self.outputs.append(shown)
        return SimpleNamespace(update=lambda value: shown.update(data=bundle(value))) if display_id else None

    def result(self, value: Any, count: int) -> None:
        """The value of the cell's last line."""
        if value is not None:
            data = bundle(value)
            made = {"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}}
            self.outputs.append(made)


def bundle(value: Any) -> dict[str, str]:
    """{kind: what a notebook shows}: text, and HTML or a picture where the value gives one. Of two pictures the smaller
    one."""
    made = {"text/plain": re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))}
    html = getattr(value, "_repr_html_", lambda: None)()
    if html:
        made["text/html"] = html
    kinds = {"image/png": "_repr_png_", "image/jpeg": "_repr_jpeg_"}
    found = {kind: data for kind, name in kinds.items() if (data := getattr(value, name, lambda: None)())}
    if found:
        kind = min(found, key=lambda kind: len(found[kind]))
        made[kind] = base64.b64encode(found[kind]).decode()
    return made


@contextlib.contextmanager
def kernel(cell: Cell) -> Iterator[None]:
    """Within the block IPython seems to run a kernel, and what is printed and displayed belongs to the cell."""
    package, displays = ModuleType("IPython"), ModuleType("IPython.display")
    vars(package).update(get_ipython=lambda: SimpleNamespace(kernel=True), display=displays)
    vars(displays).update(display=cell.display)
    before = {name: sys.modules.get(name) for name in ("IPython", "IPython.display")}
    sys.modules.update({"IPython": package, "IPython.display": displays})
    try:
        with contextlib.redirect_stdout(cell):
            yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def run(cells: Sequence[Mapping[str, Any]], folder: Path, replaced: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs the code cells in one namespace, with `folder` as the current one -> {id: outputs}. replaced: the code of
    cells by id, in place of their own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs: dict[str, Any] = {}
    with contextlib.chdir(folder):
        for cell in cells:
            if cell["cell_type"] != "code":
                continue
            shown = Cell()
            code = ast.parse((replaced or {}).get(cell["id"], "".join(cell["source"])))
            last = code.body.pop() if code.body and isinstance(code.body[-1], ast.Expr) else None
            with kernel(shown):
                exec(compile(code, cell["id"], "exec"), names)
                if isinstance(last, ast.Expr):
                    value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
                    shown.result(value, len(outputs) + 1)
            outputs[cell["id"]] = shown.outputs
    return outputs


def lines(text: str) -> list[str]:
    """Text as a notebook's file holds it."""
    return text.splitlines(keepends=True)


def main(file: Path = NOTEBOOK) -> None:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(notebook["cells"], Path(folder))
    for count, (id, shown) in enumerate(outputs.items(), start=1):
        for one in shown:
            if "text" in one:
                one["text"] = lines(one["text"])
            one["data"] = {kind: lines(text) if "text" in kind else text for kind, text in one.get("data", {}).items()}
            if not one["data"]:
                del one["data"]
        cell = next(cell for cell in notebook["cells"] if cell["id"] == id)
        cell |= {"execution_count": count, "outputs": shown}
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {file} ({os.path.getsize(file):,} bytes)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
