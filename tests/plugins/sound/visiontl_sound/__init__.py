"""What a recording is, from its spectrogram as a picture: a task for visiontl. No torch, for `visiontl --help` reads
this."""

from pydantic import Field

from visiontl import Section, Task, hookimpl, lazy

STEPS = "visiontl_sound.steps"


class SoundConfig(Section):
    """Tells recordings apart by their mel spectrograms."""

    data: str = Field(description="folder of WAV files, a folder for each class; 'example' makes some")
    rate: int = Field(8000, ge=1000, description="samples a second that recordings are brought to")
    seconds: float = Field(1.0, gt=0, description="of each recording that are heard, its beginning")
    mels: int = Field(64, ge=8, description="bands of the spectrogram")
    masked: float = Field(0.15, ge=0, lt=1, description="share of time and of bands that training hides at most")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")


class ExplainOptions(Section):
    label: str | None = Field(None, description="the class to explain; by default the one that is predicted")


TASK = Task(
    name="sound",
    config=SoundConfig,
    data=lazy(f"{STEPS}:data"),
    sample=lazy(f"{STEPS}:sample"),
    collate=lazy(f"{STEPS}:collate"),
    model=lazy(f"{STEPS}:Sounds"),
    loss=lazy(f"{STEPS}:loss"),
    rows=lazy(f"{STEPS}:rows"),
    score=lazy(f"{STEPS}:score"),
    best=("accuracy", "max"),
    trivial=lazy(f"{STEPS}:trivial"),
    predict=lazy(f"{STEPS}:predict"),
    draw=lazy(f"{STEPS}:draw"),
    report=lazy(f"{STEPS}:report"),
    mistakes=lazy(f"{STEPS}:mistakes"),
    explain=lazy(f"{STEPS}:explain"),
    explain_options=ExplainOptions,
    opens={".wav": lazy("visiontl_sound.waves:spectrogram")},
    example=lazy("visiontl_sound.waves:example"),
    contract=1,
)


@hookimpl
def visiontl_tasks():
    return [TASK]
