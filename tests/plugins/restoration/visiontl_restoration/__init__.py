"""Photos without their noise: a task for visiontl. No torch, for `visiontl --help` reads this."""

from pydantic import Field

from visiontl import Section, Task, hookimpl, lazy

STEPS = "visiontl_restoration.steps"


class RestorationConfig(Section):
    """Takes noise out of photos."""

    data: str = Field(description="folder of clean photos; 'example' draws some")
    noise: float = Field(25.0, gt=0, le=100, description="deviation of the noise that is added, in levels of 255")
    width: int = Field(32, ge=4, description="channels of the decoder")


class Options(Section):
    strength: float = Field(1.0, ge=0, le=1, description="share of what the model would change")


TASK = Task(
    name="restoration",
    config=RestorationConfig,
    data=lazy(f"{STEPS}:data"),
    sample=lazy(f"{STEPS}:sample"),
    collate=lazy(f"{STEPS}:collate"),
    model=lazy("visiontl_restoration.model:Restorer"),
    loss=lazy(f"{STEPS}:loss"),
    rows=lazy(f"{STEPS}:rows"),
    score=lazy(f"{STEPS}:score"),
    best=("psnr", "max"),
    ranked=lambda cfg: {"psnr": "max", "rmse": "min"},
    trivial=lazy(f"{STEPS}:trivial"),
    predict=lazy(f"{STEPS}:predict"),
    options=Options,
    draw=lazy(f"{STEPS}:draw"),
    report=lazy(f"{STEPS}:report"),
    example=lazy(f"{STEPS}:example"),
    small={"width": 8},
    contract=1,
)


@hookimpl
def visiontl_tasks():
    return [TASK]
