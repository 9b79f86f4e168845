"""Weights from other people's files: under names that wrappers changed, of other channels and grids, damaged, or short
of what makes the network. The oracle is the library's own model or its own rule."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontl.backbones.registry import find
from visiontl.backbones.weights import make_backbone
from visiontl.engine.announcements import announce_weights
from visiontl.errors import WeightsError
from visiontl.report.console import Console

RESNET, VIT, TINY, FEATURES = "timm/test_resnet", "timm/test_vit", "visiontl/tiny", "torchvision/squeezenet1_1"


def make(name, path="none", **options):
    return make_backbone(find(name)[0], str(path), **options)


def random_state(name, seed=0, **options):
    """Tensors of a library's model by its names, each value its own."""
    entry, _ = find(name)
    backbone = entry.build(**options)
    values = torch.Generator().manual_seed(seed)
    return {
        theirs: torch.rand(tensor.shape, generator=values) + 0.5 if tensor.is_floating_point() else tensor.clone()
        for own, theirs in backbone.library_names().items()
        for tensor in [backbone.state_dict()[own]]
    }


def check_loaded(backbone, state):
    names = backbone.library_names()
    for own, tensor in backbone.state_dict().items():
        if own in names and tensor.is_floating_point():
            assert torch.equal(tensor, state[names[own]]), own


@pytest.mark.parametrize("word", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"])
@pytest.mark.parametrize(("name", "inside"), [(RESNET, "layer1."), (TINY, "body.stage1."), (VIT, "blocks.0.attn.")])
def test_words_of_wrappers_inside_names_are_taken_out(tmp_path, word, name, inside):
    state = random_state(name)
    wrapped = {k.replace(inside, f"{inside}{word}."): v for k, v in state.items()}
    assert wrapped.keys() != state.keys()
    torch.save({"state_dict": {f"net.{k}": v for k, v in wrapped.items()}}, tmp_path / "w.pth")
    backbone, report = make(name, tmp_path / "w.pth")
    check_loaded(backbone, state)
    assert f"wrappers' words taken out of {sum(inside in k for k in state)} names: {word}" in str(report)
    torch.save({f"{word}.{k}": v for k, v in wrapped.items()}, tmp_path / "both.pth")
    check_loaded(make(name, tmp_path / "both.pth")[0], state)


@pytest.mark.parametrize(
    ("name", "block", "further"),
    [(RESNET, "layer4.0.", "layer4.9."), (TINY, "body.stage3.", "body.stage9."), (VIT, "blocks.0.", "blocks.99.")],
)
def test_the_file_of_a_larger_architecture_is_suspected(tmp_path, name, block, further):
    state = random_state(name)
    larger = {k.replace(block, further): v for k, v in state.items() if k.startswith(block)}
    assert larger
    torch.save({**state, **larger}, tmp_path / "larger.pth")
    _, report = make(name, tmp_path / "larger.pth")
    assert set(report.deeper) == {k for k, v in larger.items() if v.ndim > 1}
    assert f"{len(report.deeper)} of those stand in the backbone's own modules" in str(report)
    console = Console(stream=io.StringIO())
    announce_weights(report, console)
    assert console.notes[0].startswith("warning: ")
    # counters of a profiler, and heads of another task, are no layers of the backbone
    beside = {f"{block}total_ops": torch.zeros(1), "decoder.weight": torch.ones(500, 500)}
    torch.save({**state, **beside}, tmp_path / "beside.pth")
    assert not make(name, tmp_path / "beside.pth")[1].deeper


def numbered(name):
    """As nn.Sequential(*model.children()) names the tensors of a library's model."""
    library, arch = name.split("/")
    if library == "timm":
        import timm

        model = timm.create_model(arch, num_classes=3)
    else:
        from torchvision import models

        model = models.get_model(arch)
    return torch.nn.Sequential(*model.children()).state_dict(), model.state_dict()


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.encoder."])
@pytest.mark.parametrize("name", [RESNET, FEATURES])
def test_numbers_of_sequential_are_understood(tmp_path, name, prefix):
    numbers, state = numbered(name)
    assert numbers.keys() != state.keys()
    torch.save({"state_dict": {prefix + k: v for k, v in numbers.items()}}, tmp_path / "n.ckpt")
    backbone, report = make(name, tmp_path / "n.ckpt")
    check_loaded(backbone, state)
    assert "numbers of nn.Sequential understood" in str(report)


def test_the_children_of_the_only_part_are_understood(tmp_path):
    from torchvision import models

    features = models.squeezenet1_1().features
    torch.save(features.state_dict(), tmp_path / "features.pth")
    backbone, report = make(FEATURES, tmp_path / "features.pth")
    check_loaded(backbone, {f"features.{k}": v for k, v in features.state_dict().items()})
    assert "lack 'features'" in str(report)


def test_numbers_that_leave_a_doubt_are_refused_and_the_chosen_backbone_is_not_advised(tmp_path):
    numbers, state = numbered(RESNET)
    first, second = (f"{n}." for n in sorted({int(k.split(".")[0]) for k in numbers})[:2])
    swapped = {
        k.replace(first, "x.", 1).replace(second, first, 1).replace("x.", second, 1)
        if k.startswith((first, second))
        else k: v
        for k, v in numbers.items()
    }
    for table in (swapped, {f"a.{k}": v for k, v in swapped.items()}, {f"own_{k}": v for k, v in state.items()}):
        torch.save(table, tmp_path / "n.pth")
        with pytest.raises(WeightsError) as caught:
            make(RESNET, tmp_path / "n.pth")
        assert "choose backbone.name" not in str(caught.value)
        assert ("begin with numbers" in str(caught.value)) == (table is not state and "own_" not in next(iter(table)))


@pytest.mark.parametrize("name", [TINY, RESNET, FEATURES])
@pytest.mark.parametrize(("theirs", "ours"), [(1, 3), (12, 3), (4, 3), (3, 1), (3, 4), (2, 5)])
def test_the_first_convolution_is_adapted_both_ways(tmp_path, name, theirs, ours):
    from timm.models._manipulate import adapt_input_conv

    state, own = random_state(name, in_channels=theirs), random_state(name, in_channels=ours)
    (key,) = [k for k in own if own[k].shape != state[k].shape]
    torch.save(state, tmp_path / "w.pth")
    backbone, report = make(name, tmp_path / "w.pth", in_channels=ours)
    expected = adapt_input_conv(ours, state[key], base_chans=theirs)
    check_loaded(backbone, {**state, key: expected})
    assert f"{key} adapted from {theirs} to {ours} input channels" in str(report)
    assert report.fraction == 1.0


def first(state):
    return next(k for k, v in state.items() if v.dim() == 4)


LACKING = {
    "first convolution": (RESNET, lambda s: {k: v for k, v in s.items() if k != first(s)}, {}),
    "shape of a first convolution": (TINY, lambda s: {**s, first(s): s[first(s)][..., :2]}, {}),
    "statistics": (RESNET, lambda s: {k: v for k, v in s.items() if "running" not in k}, {}),
    "some statistics": (TINY, lambda s: {k: v for k, v in s.items() if not k.endswith("branch.2.running_var")}, {}),
    "tables of positions": (VIT, lambda s: {k: v for k, v in s.items() if k != "pos_embed"}, {}),
    "shape": (VIT, lambda s: {**s, "pos_embed": s["pos_embed"][:, :-3]}, {}),
    "shape of whole numbers": (VIT, lambda s: {**s, "norm.weight": s["norm.weight"].to(torch.int8)}, {}),
}


@pytest.mark.parametrize("kind", LACKING)
def test_what_makes_another_network_is_refused_unless_it_is_allowed(tmp_path, kind):
    name, take, options = LACKING[kind]
    whole = random_state(name, **options)
    state = take(whole)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"backbone\.strict=false") as caught:
        make(name, tmp_path / "w.pth")
    assert " of ".join(kind.split(" of ")[:1]).removeprefix("some ") in str(caught.value)
    backbone, report = make(name, tmp_path / "w.pth", strict=False)
    lost = {k for k in whole if k not in state or state[k].shape != whole[k].shape or state[k].dtype != whole[k].dtype}
    lost = {k for k in lost if "num_batches" not in k}
    assert set(report.missing) == lost
    assert report.share.tensors == report.share.of_tensors - len(lost)
    assert "100.0%" not in str(report)
    assert "allowed by backbone.strict=false" in str(report)
    names = {theirs: own for own, theirs in backbone.library_names().items()}
    for key in whole.keys() - lost:
        if whole[key].is_floating_point():
            assert torch.equal(backbone.state_dict()[names[key]], whole[key])


def test_the_config_allows_it_and_the_run_warns(tmp_path):
    from visiontl.config.resolve import resolve
    from visiontl.engine.start import pretrained_backbone
    from visiontl.report.console import Console

    state = random_state(TINY)
    torch.save({k: v for k, v in state.items() if k != first(state)}, tmp_path / "w.pth")
    config = {
        "task": {"name": "classification", "data": "example"},
        "backbone": {"name": TINY, "weights": str(tmp_path / "w.pth")},
    }
    with pytest.raises(WeightsError, match="its first convolution"):
        pretrained_backbone(resolve(config), Console(main=False))
    console = Console(main=False)
    pretrained_backbone(resolve(config, ["backbone.strict=false"]), console)
    (text,) = (note for note in console.notes if note.startswith("warning: "))
    assert first(state) in text


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    for name in (TINY, RESNET):
        state = random_state(name)
        key = [k for k, v in state.items() if v.is_floating_point()][-1]
        state[key].view(-1)[-1] = float(value)
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=f"1 of its tensors, such as {key}"):
            make(name, tmp_path / "w.pth")


def test_a_variance_below_0_is_refused(tmp_path):
    state = random_state(RESNET)
    key = next(k for k in state if k.endswith("running_var"))
    state[key][0] = -0.1
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"variances below 0: 1 of its tensors, such as {key}"):
        make(RESNET, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float64(0.5), "a NumPy scalar"),
        (np.int32(5), "a NumPy scalar"),
        (np.arange(3.0), "a NumPy array or type"),
        (pathlib.PurePosixPath("a/b"), "a path"),
        (pathlib.PureWindowsPath("C:/b"), "a path"),
    ],
    ids=str,
)
def test_a_harmless_object_beside_tensors_is_named_with_the_way_out(tmp_path, value, words):
    path = tmp_path / "check point.pth"
    torch.save({"state_dict": random_state(TINY), "best": value}, path)
    with pytest.raises(WeightsError) as caught:
        make(TINY, path)
    assert f"holds {words} (" in str(caught.value)
    assert f"visiontl import-weights '{path}' 'check point.safetensors'" in str(caught.value)
    assert "run code" not in str(caught.value)


def test_the_assumed_preprocessing_is_a_line(tmp_path):
    torch.save(random_state(FEATURES), tmp_path / "w.pth")
    _, report = make(FEATURES, tmp_path / "w.pth")
    assert "assumed: 224 x 224 pixels cut from 256 x 256 pixels (crop 0.875), bilinear, mean 0.485" in str(report)
    _, report = make(FEATURES, tmp_path / "w.pth", image_size=(64, 128))
    assert "assumed: 128 x 64 pixels cut from 146 x 73 pixels" in str(report)
    torch.save(random_state(TINY), tmp_path / "w.pth")
    assert "assumed: 64 x 64 pixels whole (crop 1), bilinear, mean 0.5" in str(make(TINY, tmp_path / "w.pth")[1])


def saved(zipped):
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(4.0), "b": {"c": torch.ones(2, 3)}}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


SAVED = {zipped: saved(zipped) for zipped in (True, False)}


@settings(max_examples=60, deadline=None)
@given(
    zipped=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    end=st.one_of(st.none(), st.integers(0, 1 << 12)),
)
def test_damaged_files_are_refused_in_words_and_raise_nothing_else(tmp_path_factory, zipped, changes, end):
    content = bytearray(SAVED[zipped][:end])
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    refused = None
    try:
        make(TINY, path)
    except WeightsError as error:
        refused = str(error)
    assert refused  # none of them is whole
    assert str(path) in refused
    assert "\n" not in refused
