"""Where tail and head of an arrow are: a third party's task. No torch, for `visiontl --help` reads this."""

from pydantic import Field

from visiontl import Section, Task, hookimpl, lazy


class KeypointsConfig(Section):
    data: str = Field(description="folder of photos with points.json beside them, {file: [[x, y], [x, y]]} in pixels")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the last layer")


TASK = Task(
    name="keypoints",
    config=KeypointsConfig,
    data=lazy("visiontl_keypoints_steps:data"),
    sample=lazy("visiontl_keypoints_steps:sample"),
    collate=lazy("visiontl_keypoints_steps:collate"),
    model=lazy("visiontl_keypoints_steps:Keypoints"),
    loss=lazy("visiontl_keypoints_steps:loss"),
    rows=lazy("visiontl_keypoints_steps:rows"),
    score=lazy("visiontl_keypoints_steps:score"),
    best=("error", "min"),
    predict=lazy("visiontl_keypoints_steps:predict"),
    export=lazy("visiontl_keypoints_steps:export"),
    example=lazy("visiontl_keypoints_steps:example"),
)


@hookimpl
def visiontl_tasks():
    return [TASK]
