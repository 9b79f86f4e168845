"""A source of backbones from outside, through the same fields as ours (tests/plugins/pebbles)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

import visiontl
from visiontl import cli, plugins
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import resolve
from visiontl.doctor.diagnose import diagnose
from visiontl.errors import BackboneError, WeightsError
from visiontl.report.console import Console


@pytest.fixture
def entry():
    return plugins.backbone_entry("pebbles/small")[0]


@pytest.fixture
def original():
    """The authors' model with the weights of a tag, in eval mode: the oracle."""
    import visiontl_pebbles_model as theirs

    def make(tag):
        model = theirs.Pebbles()
        model.load_state_dict(theirs.weights(tag), strict=True)
        return model.eval()

    return make


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(("source", "tag", "side"), [("default", "day", 32), ("night", "night", 48)])
def test_a_tag_brings_its_weights_preprocessing_and_head(entry, original, source, tag, side):
    backbone, report = make_backbone(entry, source)
    assert report.fraction == 1.0
    assert "13 of 13 tensors and 100.0% of" in str(report)
    assert backbone.spec == entry.spec(tag)
    assert backbone.spec.size == (side, side)
    image = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(getattr(backbone.spec, one)).view(1, 3, 1, 1) for one in ("mean", "std"))
    with torch.no_grad():
        features = backbone.eval()(image, maps=[1], pooled=True)
        expected = original(tag)((image - mean) / std)
        head = backbone.classifier()
        torch.testing.assert_close(head(features), expected)
    assert head.classes == ("granite", "slate", "flint")
    assert "the original classifier of 3 classes is kept aside" in str(report)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder_q."])
def test_a_file_is_found_under_any_prefix(entry, original, prefix, tmp_path):
    state = original("night").state_dict()
    torch.save({"state_dict": under(prefix, state), "epoch": 3}, tmp_path / "file.pth")
    backbone, report = make_backbone(entry, str(tmp_path / "file.pth"))
    assert report.fraction == 1.0
    assert not report.missing
    assert (f"prefix '{prefix}' stripped" in str(report)) == bool(prefix)
    for name, tensor in backbone.body.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert backbone.head_classes == 3


def test_a_source_knows_other_names_of_its_files(entry, original, tmp_path):
    state = original("day").state_dict()
    older = {k.replace("first.", "one.").replace("second.", "two."): v for k, v in state.items()}
    torch.save(under("module.", older), tmp_path / "older.pth")
    backbone, report = make_backbone(entry, str(tmp_path / "older.pth"))
    assert report.fraction == 1.0
    assert "names of the first edition" in report.notes
    assert torch.equal(backbone.body.first[0].weight, state["first.0.weight"])


def test_what_is_missing_is_counted_and_never_called_all(entry, original, tmp_path):
    state = original("day").state_dict()
    torch.save({k: v for k, v in state.items() if k != "norm.bias"}, tmp_path / "nearly.pth")
    _, report = make_backbone(entry, str(tmp_path / "nearly.pth"))
    assert report.missing == ("norm.bias",)
    assert report.fraction == pytest.approx(12 / 13)
    assert "12 of 13 tensors" in str(report)
    assert "random: norm.bias" in str(report)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda tag: None, "its `state` gave a NoneType for the weights 'day'.*Nothing was loaded"),
        (lambda tag: {}, "day holds no tensors"),
        (lambda tag: {"norm.bias": torch.zeros(12)}, "day gives 1 of 13 tensors and 1.0% .*nothing was loaded"),
        (None, "offers no way to load them"),
    ],
)
def test_an_entry_that_loads_nothing_is_refused(entry, state, words):
    backbone = entry.build()
    lazy = replace(entry, state=state, build=lambda **_: backbone)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=words):
        make_backbone(lazy, "day")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_tensor_without_a_librarys_name_counts_as_missing(entry):
    """A source that forgets some of its tensors is told, not believed."""
    kind = type(entry.build())

    class Forgetful(kind):
        def library_names(self):
            return {k: v for k, v in super().library_names().items() if "first" not in k}

    forgetful = replace(entry, build=lambda spec=None, in_channels=3, **_: Forgetful(spec, in_channels))
    with pytest.raises(WeightsError, match=r"7 of 13 tensors.* Missing: body\.first"):
        make_backbone(forgetful, "day")


def test_what_a_source_gives_is_checked_in_words(entry):
    with pytest.raises(BackboneError, match="its `spec` gave a dict"):
        make_backbone(replace(entry, spec=lambda tag: {"size": 32}), "day")
    with pytest.raises(BackboneError, match="made a Linear"):
        make_backbone(replace(entry, build=lambda **_: torch.nn.Linear(1, 1)), "none")

    class Bare(visiontl.Backbone):
        pass

    with pytest.raises(BackboneError, match="Bare sets no stages, stage_of, channels"):
        make_backbone(replace(entry, build=lambda **_: Bare("pebbles/bare", visiontl.ImageSpec())), "none")
    with pytest.raises(WeightsError, match="did you mean 'night'"):
        make_backbone(entry, "nigth")


def test_it_is_listed_and_known_by_its_bare_name(capsys):
    assert cli.main(["list", "backbones", "pebbles/*"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("pebbles/small", "1.2k", "12 2 4 32x32", "day (cc0-1.0), night (mit)"):
        assert words in said
    offered, note = plugins.backbone_entry("small")
    assert offered.name == "pebbles/small"
    assert "means pebbles/small" in note


@pytest.fixture
def config(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(16):
        Image.new("RGB", (40, 40), (15 * i, 90, 240 - 15 * i)).save(tmp_path / f"photos/{i:02}.png")

    def make(weights="default"):
        return {
            "task": {"name": "brightness", "data": str(tmp_path / "photos")},
            "backbone": {"name": "pebbles/small", "weights": weights},
            "train": {"batch_size": 4, "epochs": 1},
            "run": {"folder": str(tmp_path / "runs")},
        }

    return make


def test_doctor_reads_its_local_file_and_downloads_nothing(config, original, tmp_path):
    torch.save(original("day").state_dict(), tmp_path / "day.pth")
    found = diagnose(resolve(config(str(tmp_path / "day.pth"))), Console(main=False))
    assert any("13 of 13 tensors" in fact for fact in found.facts)
    found = diagnose(resolve(config("night")), Console(main=False))
    assert any("input 48 x 48 pixels" in fact for fact in found.facts)
    assert any("no download was made" in one for one in found.unchecked)


def test_a_model_on_it_trains_and_loads_again(config):
    report = visiontl.train(config("night"))
    folder = report["run"] if isinstance(report, dict) else report.run
    built = visiontl.load(folder).built
    assert built.backbone.name == "pebbles/small"
    assert built.backbone.spec.size == (48, 48)
