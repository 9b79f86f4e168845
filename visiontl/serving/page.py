"""The page of `visiontl demo`: gradio's parts, laid out. All that it shows is made in `demonstration`."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from fastapi import FastAPI

from visiontl.report import inline
from visiontl.serving.app import Watched
from visiontl.serving.controls import Control
from visiontl.serving.demonstration import Demonstration

# nothing is told to anybody; read when gradio is imported
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": ""}
POLICY = (  # gradio makes code as it goes, and shows pictures that are no files
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; worker-src 'self' blob:; font-src 'self' data:"
)
OLD = (300, 600)  # seconds: how often uploads are looked at, and how old they become
LOOK = """
.gradio-container {max-width: 1280px !important; margin: auto !important; width: 100%}
.words {overflow-wrap: anywhere}
.words table, .words tr, .words thead, .words tbody {border: 0 !important}
.shown img {width: 100%; max-height: 60vh; object-fit: contain}
"""


def page_of(shown: Demonstration) -> Any:
    """gradio's Blocks. Nothing listens yet."""
    os.environ.update({**QUIET, "GRADIO_TEMP_DIR": str(shown.folder.parent / "uploads")})
    import gradio as gr

    explains = shown.explains is not None
    with gr.Blocks(title="visiontl demo", analytics_enabled=False, delete_cache=OLD, fill_width=True) as page:
        gr.HTML(f'<h1 style="font-size:1.5em;margin:0">{inline.text(shown.title)}</h1>{inline.soft(shown.scores)}')
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = picture_in(gr, "photo", 300)
                button = gr.Button("answer", variant="primary")
                controls = laid_out(gr, shown.controls, "options")
                ask = gr.Checkbox(explains, label="explain the answer", visible=explains)
                own = laid_out(gr, shown.explains or [], "what is explained")
            with gr.Column(scale=3, min_width=300):
                with gr.Row():
                    with gr.Column(min_width=280):
                        picture = picture_out(gr, "answer")
                        values = gr.HTML(label="values", elem_classes="words")
                    with gr.Column(min_width=280, visible=explains):
                        heat = picture_out(gr, "explanation")
                        words = gr.HTML(label="explained", elem_classes="words")
                gr.HTML(inline.soft(inline.text(f"no explanation: {shown.why}")), visible=not explains)
                files = gr.File(label="files", file_count="multiple", interactive=False, visible=False)

        def answer(photo: Any, explain: Any, *values: Any) -> list[Any]:
            made = shown.answer(photo, bool(explain), values)
            kept = gr.File(made.files or None, visible=bool(made.files))
            return [made.picture, made.values, made.explained, made.words, kept]

        answer.__signature__ = signature_of(shown)  # type: ignore[attr-defined]
        given, found = [photo, ask, *controls, *own], [picture, values, heat, words, files]
        button.click(answer, given, found, api_name="answer")
        photo.upload(answer, given, found, api_visibility="private")
    page.queue(default_concurrency_limit=shown.line.limits.batch, max_size=shown.line.limits.waiting)
    return page


def signature_of(shown: Demonstration) -> inspect.Signature:
    """Names and defaults of the arguments, for who calls the page from a program: option a.b is a_b."""
    own = shown.explains or []
    names = ["photo", "explain", *(one.name for one in shown.controls), *(f"explain_{one.name}" for one in own)]
    plain = [re.sub(r"\W", "_", name) or "others" for name in names]
    unlike = [f"{name}_{plain[:i].count(name) + 1}" if name in plain[:i] else name for i, name in enumerate(plain)]
    starts = [inspect.Parameter.empty, bool(shown.explains), *(one.start for one in shown.all)]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pairs = zip(unlike, starts, strict=True)
    return inspect.Signature([inspect.Parameter(name, kind, default=start) for name, start in pairs])


def picture_out(gr: Any, label: str) -> Any:
    gr.HTML(f"<b>{inline.text(label)}</b>")  # above it: a label of its own would cover what is drawn in its corner
    buttons = ["download", "fullscreen"]  # without the one that would send the picture to the hub
    return gr.Image(
        label=label, show_label=False, interactive=False, format="png", buttons=buttons, elem_classes="shown"
    )


def laid_out(gr: Any, controls: Sequence[Control], title: str) -> list[Any]:
    """A part for each control, folded away below their title; those of one mapping below its name."""
    if not controls:
        return []
    made: list[Any] = []
    with gr.Accordion(title, open=any(one.kind == "picture" for one in controls)):
        for group, own in groupby(controls, lambda one: one.group):
            if group:
                gr.HTML(f"<b>{inline.text(group)}</b>")
            made += [part_of(gr, one) for one in own]
    return made


def part_of(gr: Any, one: Control) -> Any:
    named = {"label": one.label, "info": one.about.replace("null:", "left as it is:") or None}
    if one.kind == "picture":
        gr.HTML(inline.soft(inline.text(one.about)))
        return picture_in(gr, one.label, 180)
    if one.kind == "switch":
        return gr.Checkbox(bool(one.default), **named)
    if one.kind == "maybe":
        return gr.Radio(one.choosable, value=one.start, **named)
    if one.kind in ("choice", "several"):
        return gr.Dropdown(one.choosable, value=one.start, multiselect=one.kind == "several", **named)
    if one.kind in ("number", "whole"):
        return number_in(gr, one, named)
    return gr.Textbox(one.start, **named)


def number_in(gr: Any, one: Control, named: dict[str, Any]) -> Any:
    """A slider between two bounds that are near, a field otherwise."""
    whole = one.kind == "whole"
    if one.low is not None and one.high is not None and one.high - one.low <= 100:
        return gr.Slider(one.low, one.high, value=one.default, step=1 if whole else 0.01, **named)
    bounds = {"minimum": one.low, "maximum": one.high, "precision": 0 if whole else None}
    return gr.Number(one.default, **bounds, **named)


def picture_in(gr: Any, label: str, height: int) -> Any:
    """Where a picture is put. It is given on as the file that came, which nobody here opens: that, its limits and what
    is said of junk are the worker's."""
    made = gr.Image(label=label, type="filepath", sources=["upload", "webcam", "clipboard"], height=height, buttons=[])
    unopened: Callable[[Any], str | None] = lambda payload: payload.path if payload is not None else None  # noqa: E731
    made.preprocess = unopened
    return made


def app_of(shown: Demonstration) -> FastAPI:
    """The page as an app, which answers who calls this machine by a name of its own, and lets its page load nothing
    from elsewhere."""
    page = page_of(shown)
    import gradio as gr

    limits = shown.line.limits
    app = FastAPI(title="visiontl demo", docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name="127.0.0.1",
        allowed_paths=[str(shown.folder)],
        max_file_size=limits.upload,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=LOOK,
    )
    app.add_middleware(Watched, metrics=shown.line.metrics, local=True, headers={"Content-Security-Policy": POLICY})
    return app
