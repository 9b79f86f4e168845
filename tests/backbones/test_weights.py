"""Weights from every kind of source. The oracle is the library's own full model, loaded strictly."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import re
import warnings
from dataclasses import replace

import pytest
import torch

from tests.shared import shared
from visiontl.backbones import downloads
from visiontl.backbones.registry import find
from visiontl.backbones.weights import make_backbone
from visiontl.errors import BackboneError, WeightsError

MOBILENET = "weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth"
SQUEEZENET = "weights/squeezenet1_1_imagenet/squeezenet1_1.pth"
IMAGENET = (
    torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
    torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
)


def make(name, source="none", **options):
    backbone, report = make_backbone(find(name)[0], str(source), **options)
    return backbone.eval(), report


def full_model(name, seed=0, **options):
    """The library's own model with a classifier and random weights and statistics, in eval mode."""
    torch.manual_seed(seed)
    library, arch = name.split("/")
    if library == "timm":
        import timm

        model = timm.create_model(arch, **options)
    else:
        from torchvision import models

        model = models.get_model(arch, weights=None, **options)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.normal_(module.weight, 1, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in model.parameters():  # some classifiers begin with zeros
        if parameter.dim() == 2 and parameter.shape[0] == 1000:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def values_of(backbone):
    return {k: v.clone() for k, v in backbone.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision/mobilenet_v2", MOBILENET),
        ("timm/mobilenetv2_100", MOBILENET),
        ("torchvision/squeezenet1_1", SQUEEZENET),
    ],
)
def test_local_files_load_completely(name, file):
    from torchvision import models

    path = shared(file)
    backbone, report = make(name, path)
    assert report.fraction == 1.0
    assert report.share.values == report.share.of_values > 700_000
    assert not report.missing
    assert not report.unexpected
    oracle = (models.mobilenet_v2 if "mobilenet" in name else models.squeezenet1_1)().eval()
    oracle.load_state_dict(torch.load(path, weights_only=True), strict=True)
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = (image - IMAGENET[0]) / IMAGENET[1]
        features = backbone(image, maps=[len(backbone.channels) - 1], pooled=True)
        torch.testing.assert_close(features.pooled, oracle.features(x).mean((2, 3)), rtol=1e-5, atol=1e-5)
        head = backbone.classifier()
        torch.testing.assert_close(head(features), oracle(x), rtol=1e-5, atol=1e-5)
    assert head.num_classes == len(head.classes) == 1000
    assert head.classes[0].startswith("tench")
    assert not any("classifier" in n and p.shape[0] == 1000 for n, p in backbone.named_parameters())
    if name.startswith("timm"):
        assert any("remapped from torchvision/mobilenet_v2" in note for note in report.notes)


@pytest.mark.parametrize(
    "name",
    [
        "timm/test_resnet",
        "timm/test_vit",
        "timm/test_convnext",
        "timm/mobilenetv3_small_050",
        "timm/levit_128s",
        "timm/efficientvit_m0",
        "timm/vgg11",
        "timm/test_byobnet",
        "torchvision/resnet18",
        "torchvision/shufflenet_v2_x0_5",
        "torchvision/googlenet",
    ],
)
def test_pooled_and_logits_are_the_librarys_own(name, tmp_path):
    known = {"init_weights": True, "aux_logits": True, "transform_input": True} if "googlenet" in name else {}
    oracle = full_model(name, **known)
    torch.save(oracle.state_dict(), tmp_path / "model.pth")
    backbone, report = make(name, tmp_path / "model.pth")
    assert report.fraction == 1.0
    assert not report.missing
    assert all("aux" in key for key in report.unexpected)
    height, width = backbone.spec.size
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    # googlenet's own model turns ImageNet's statistics into others
    x = (image - IMAGENET[0]) / IMAGENET[1] if known else backbone.normalize(image)
    with torch.no_grad():
        features = backbone(image, maps=[len(backbone.channels) - 1], pooled=True)
        logits = oracle(x)
        assert logits.std() > 0.01
        torch.testing.assert_close(backbone.classifier()(features), logits, rtol=1e-5, atol=1e-5)
        if name.startswith("timm"):
            own = oracle.forward_head(oracle.forward_features(x), pre_logits=True)
            torch.testing.assert_close(features.pooled, own, rtol=1e-5, atol=1e-5)


def test_a_classifier_that_reads_something_else_is_refused():
    for name in ("timm/deit_tiny_distilled_patch16_224", "timm/volo_d1_224", "timm/crossvit_9_240"):
        with pytest.raises(BackboneError, match="no original classifier"):
            make(name)[0].classifier()


def test_a_random_classifier_has_the_architectures_shape():
    """A saved model is built again without its weights file."""
    for name in ("timm/test_resnet", "torchvision/squeezenet1_1"):
        backbone, _ = make(name)
        head = backbone.classifier()
        features = backbone(torch.rand(2, 3, 64, 64), maps=[len(backbone.channels) - 1], pooled=True)
        assert head(features).shape == (2, 1000)
        assert torch.isfinite(head(features)).all()
        assert head.classes is None
        assert backbone.classifier(7)(features).shape == (2, 7)


def wrapped(state, seed_other=1):
    """Checkpoints as trainers write them: name -> (checkpoint, words that the report must say)."""
    body = {k: v for k, v in state.items() if not k.startswith("fc.")}
    other = {k: torch.zeros_like(v) for k, v in body.items()}

    def under(prefix, table):
        return {prefix + k: v for k, v in table.items()}

    return {
        "plain": (state, ""),
        "DataParallel": (under("module.", state), "'module.' stripped"),
        "compiled": (under("_orig_mod.", state), "'_orig_mod.' stripped"),
        "Lightning": ({"state_dict": under("model.", state), "epoch": 3, "lr": [0.1]}, "'model.' stripped"),
        "state_dict": (
            {"state_dict": state, "optimizer": {"state": {0: {"m": torch.zeros(3)}}}},
            "'state_dict'",
        ),
        "EMA": ({"model": other, "model_ema": body, "args": argparse.Namespace(lr=1)}, "'model_ema'"),
        "MoCo": (
            {
                "arch": "resnet",
                "state_dict": {
                    **under("module.encoder_k.", other),
                    "module.queue": torch.zeros(8, 4),
                    **under("module.encoder_q.", body),
                    "module.encoder_q.fc.0.weight": torch.zeros(4, 4),
                    "module.encoder_q.fc.2.weight": torch.zeros(4, 4),
                },
            },
            "'module.encoder_q.' stripped",
        ),
        "DINO": (
            {
                "student": under("module.backbone.", other),
                "teacher": {**under("backbone.", body), "head.mlp.0.weight": torch.zeros(4, 4)},
                "epoch": 99,
                "args": argparse.Namespace(arch="resnet"),
            },
            "'teacher'",
        ),
        "foreign head": (
            {**body, "fc.weight": torch.zeros(5, 7), "projector.0.weight": torch.zeros(2, 2)},
            "dropped",
        ),
    }


@pytest.mark.parametrize("kind", list(wrapped({})))
def test_wrapped_checkpoints(kind, tmp_path):
    state = full_model("timm/test_resnet").state_dict()
    assert any(k.startswith("fc.") for k in state)  # what wrapped() takes for the classifier
    checkpoint, words = wrapped(state)[kind]
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    backbone, report = make("timm/test_resnet", tmp_path / "checkpoint.pth")
    assert report.fraction == 1.0, str(report)
    assert not report.missing
    assert words in str(report)
    for key, value in backbone.body.state_dict().items():
        assert torch.equal(value, state[key]), key
    if kind in ("MoCo", "foreign head"):
        assert report.unexpected
    assert bool(backbone.head_state) == (kind in ("plain", "DataParallel", "compiled", "Lightning", "state_dict"))


def test_safetensors_and_half_precision(tmp_path):
    from safetensors.torch import save_file

    state = {
        k: v.half() if v.is_floating_point() else v for k, v in full_model("timm/test_resnet").state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors")
    backbone, report = make("timm/test_resnet", tmp_path / "model.safetensors")
    assert report.fraction == 1.0
    weight = backbone.body.conv1[0].weight if hasattr(backbone.body.conv1, "__len__") else backbone.body.conv1.weight
    assert weight.dtype == torch.float32


@pytest.mark.parametrize("wrong", ["timm/test_convnext", "torchvision/shufflenet_v2_x1_0"])
def test_another_architectures_file_is_refused_whole(wrong, tmp_path):
    right = {"timm/test_convnext": "timm/test_resnet"}.get(wrong, "torchvision/shufflenet_v2_x0_5")
    torch.save(full_model(wrong).state_dict(), tmp_path / "other.pth")
    entry, _ = find(right)
    backbone = entry.build()
    before = values_of(backbone)
    with pytest.raises(WeightsError) as caught:
        make_backbone(replace(entry, build=lambda **_: backbone), str(tmp_path / "other.pth"))
    text = str(caught.value)
    assert "%" in text.split("gives")[1][:40]
    assert "Missing: " in text
    assert wrong in text  # guessed from its number of parameters
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


def test_part_of_a_file_is_refused_with_its_fraction(tmp_path):
    """timm's own loader takes half a file in silence."""
    state = full_model("timm/test_resnet").state_dict()
    backbone, report = make("timm/test_resnet")
    own = {k: v for k, v in backbone.body.state_dict().items() if not k.endswith("num_batches_tracked")}
    half = {k: state[k] for k in list(own)[: len(own) // 2]}
    fraction = sum(v.numel() for v in half.values()) / sum(v.numel() for v in own.values())
    torch.save(half, tmp_path / "half.pth")
    with pytest.raises(WeightsError, match=f"gives {len(half)} of {len(own)} tensors and {fraction:.1%}"):
        make("timm/test_resnet", tmp_path / "half.pth")
    smallest = min(own, key=lambda k: own[k].numel())
    torch.save({k: v for k, v in state.items() if k != smallest}, tmp_path / "nearly.pth")
    _, report = make("timm/test_resnet", tmp_path / "nearly.pth")
    assert report.missing == (smallest,)
    assert 0.9 < report.fraction < 1.0
    assert smallest in str(report)
    assert f"{len(own) - 1} of {len(own)} tensors and 99.9% of" in str(report)  # never rounded to all


def test_parameters_without_their_statistics_are_refused(tmp_path):
    """They are 99 % of the values, and the network that they give is another one."""
    state = full_model("timm/test_resnet").state_dict()
    torch.save({k: v for k, v in state.items() if "running" not in k}, tmp_path / "parameters.pth")
    with pytest.raises(WeightsError, match=r"99\..*running_mean"):
        make("timm/test_resnet", tmp_path / "parameters.pth")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors", "tar"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(suffix, tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / f"evil.{suffix}"
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "x": Bomb(str(marker))}, path)
    with pytest.raises(WeightsError, match="safetensors" if suffix == "safetensors" else "would run code"):
        make("visiontl/tiny", path)
    path.write_bytes(pickle.dumps(Bomb(str(marker)), protocol=2))
    with pytest.raises(WeightsError):
        make("visiontl/tiny", path)
    assert not marker.exists()


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "resnet.pth").write_bytes(b"<html>not found</html>")
    for given, words in {
        "resnet.pth": "damaged",
        "resnt.pth": "did you mean 'resnet.pth'",
        "nowhere/x.pth": "no folder",
    }.items():
        with pytest.raises(WeightsError, match=words) as caught:
            make("visiontl/tiny", tmp_path / given)
        assert given in str(caught.value)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "no_tensors.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    for name, words in {
        "empty.safetensors": "cannot be read",
        "list.pth": "holds a list",
        "no_tensors.pth": "no tensors",
        "script.pt": "TorchScript",
    }.items():
        with pytest.raises(WeightsError, match=words):
            make("visiontl/tiny", tmp_path / name)


def test_unknown_tags_get_the_nearest():
    with pytest.raises(WeightsError, match="did you mean 'a1_in1k'"):
        make("timm/resnet18", "a1_in1")
    with pytest.raises(WeightsError, match="expected hf-hub:owner/name"):
        make("timm/resnet18", "hf-hub:nobody")


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit"])
def test_input_channels_are_adapted_as_timm_does(name, channels, tmp_path):
    import timm

    torch.save(full_model(name).state_dict(), tmp_path / "model.pth")
    backbone, report = make(name, tmp_path / "model.pth", in_channels=channels)
    assert report.fraction == 1.0
    assert any("input channels" in note for note in report.notes)
    overlay = {"file": str(tmp_path / "model.pth")}
    oracle = timm.create_model(
        name.split("/")[1], pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels, num_classes=0
    )
    for key, value in oracle.state_dict().items():
        torch.testing.assert_close(backbone.body.state_dict()[key], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 4])
def test_torchvisions_first_layer_is_adapted_the_same_way(channels, tmp_path):
    from timm.models._manipulate import adapt_input_conv

    path = shared(SQUEEZENET)
    backbone, report = make("torchvision/squeezenet1_1", path, in_channels=channels)
    assert report.fraction == 1.0
    weight = torch.load(path, weights_only=True)["features.0.weight"]
    torch.testing.assert_close(backbone.body.features[0].weight, adapt_input_conv(channels, weight))
    remapped, report = make("timm/mobilenetv2_100", shared(MOBILENET), in_channels=channels)
    assert report.fraction == 1.0
    weight = torch.load(shared(MOBILENET), weights_only=True)["features.0.0.weight"]
    torch.testing.assert_close(remapped.body.conv_stem.weight, adapt_input_conv(channels, weight))


def test_position_embeddings_of_another_grid_are_resized(tmp_path):
    import timm

    torch.save(full_model("timm/test_vit", img_size=224).state_dict(), tmp_path / "model.pth")
    backbone, report = make("timm/test_vit", tmp_path / "model.pth")
    assert report.fraction == 1.0
    overlay = {"file": str(tmp_path / "model.pth")}
    oracle = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0)
    torch.testing.assert_close(backbone.body.pos_embed, oracle.pos_embed)
    assert any("pos_embed resized" in note for note in report.notes)


def fake_hub(monkeypatch, folder):
    """The hub's client, answering from a folder: no network."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repository, filename, **options):
        asked.append((repository, filename))
        path = folder / filename
        if not path.exists():
            raise EntryNotFoundError(f"404 {filename}")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_a_tag_brings_its_own_specification(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    asked = fake_hub(monkeypatch, tmp_path)
    state = full_model("timm/convnext_nano").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    backbone, report = make("timm/convnext_nano", "r384_in12k_ft_in1k")
    assert asked[0] == ("timm/convnext_nano.r384_in12k_ft_in1k", "model.safetensors")
    assert report.fraction == 1.0
    assert backbone.spec.size == (384, 384)
    assert backbone.spec.crop == 1.0
    smaller, _ = make("timm/convnext_nano", "r384_in12k_ft_in1k", image_size=(64, 96))
    assert smaller.spec.size == (64, 96)
    default, report = make("timm/convnext_nano", "default")
    assert default.spec.size == (224, 224)
    assert "default (" in report.source


def test_hub_repositories(monkeypatch, tmp_path):
    asked = fake_hub(monkeypatch, tmp_path)
    torch.save(full_model("timm/test_resnet", num_classes=12).state_dict(), tmp_path / "pytorch_model.bin")
    stated = {"input_size": [3, 128, 128], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": stated}))
    backbone, report = make("timm/test_resnet", "hf-hub:somebody/something@main")
    assert ("somebody/something", "pytorch_model.bin") in asked
    assert report.fraction == 1.0
    assert backbone.spec.size == (128, 128)
    assert backbone.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert backbone.classifier().num_classes == 12


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(params=["no name server", "HF_HUB_OFFLINE"])
def hub_cache(request, monkeypatch, tmp_path):
    """The hub's own client on a cache in its own layout, with a repository that was cached as pytorch_model.bin alone;
    no network."""
    import socket

    from huggingface_hub import constants

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads, "resolvable", lambda address: request.param == "HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "HF_HUB_OFFLINE")
    folder = tmp_path / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    torch.save(full_model("timm/test_resnet").state_dict(), folder / "snapshots" / COMMIT / "pytorch_model.bin")
    return folder


def test_a_repository_cached_in_the_old_format_alone_is_found_without_a_network(hub_cache):
    _, report = make("timm/test_resnet", "hf-hub:owner/name")
    assert report.fraction == 1.0
    assert "what was found of hf-hub:owner/name states no preprocessing" in str(report)
    stated = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (hub_cache / "snapshots" / COMMIT / "config.json").write_text(json.dumps({"pretrained_cfg": stated}))
    for revision in ("", "@main", f"@{COMMIT}"):
        backbone, report = make("timm/test_resnet", f"hf-hub:owner/name{revision}")
        assert report.fraction == 1.0
        assert backbone.spec.size == (96, 96)
        assert "states no preprocessing" not in str(report)


def test_what_the_cache_of_the_hub_lacks_is_said(hub_cache):
    with pytest.raises(WeightsError, match=f"holds no revision 'v2', but {COMMIT}: .*hf-hub:owner/name@{COMMIT}"):
        make("timm/test_resnet", "hf-hub:owner/name@v2")
    (hub_cache / "refs/main").unlink()
    with pytest.raises(WeightsError, match=f"holds no revision 'main', but {COMMIT}"):
        make("timm/test_resnet", "hf-hub:owner/name")
    (hub_cache / "refs/main").write_text(COMMIT)
    weights = hub_cache / "snapshots" / COMMIT / "pytorch_model.bin"
    weights.rename(weights.with_name("README.md"))
    with pytest.raises(WeightsError, match=r"none of model.safetensors, .* is there; .* holds README.md"):
        make("timm/test_resnet", "hf-hub:owner/name")
    with pytest.raises(WeightsError, match="models--owner--other holds nothing of it"):
        make("timm/test_resnet", "hf-hub:owner/other")


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(downloads, "resolvable", lambda address: False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="'a1_in1k' of timm/resnet18 could not be downloaded") as caught:
        make("timm/resnet18", "a1_in1k")
    assert "none" in str(caught.value)
    with pytest.raises(WeightsError, match="hf-hub:nobody/nothing could not be downloaded"):
        make("timm/resnet18", "hf-hub:nobody/nothing")


def test_tiny_reads_its_own_files(tmp_path):
    first, _ = make("visiontl/tiny")
    torch.save({"state_dict": {f"module.{k}": v for k, v in first.state_dict().items()}}, tmp_path / "tiny.pth")
    second, report = make("visiontl/tiny", tmp_path / "tiny.pth")
    assert report.fraction == 1.0
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(first(image, pooled=True).pooled, second(image, pooled=True).pooled)


def test_a_download_in_the_cache_that_would_run_code_does_not_run(tmp_path, monkeypatch):
    """Where no name states a hash, only reading it without code keeps a file in the cache harmless."""
    import timm

    url = "https://host.invalid/weights.pth"
    published = argparse.Namespace(hf_hub_id=None, custom_load=False, url=url)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda *_: published)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    marker, cache = tmp_path / "ran", tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({"weight": torch.zeros(2), "x": Bomb(str(marker))}, cache / "weights.pth")
    with pytest.raises(WeightsError, match="would run code from the file"):
        find("timm/test_resnet")[0].state("any")
    assert not marker.exists()


def test_a_torchvision_download_that_would_run_code_does_not_run(tmp_path, monkeypatch):
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    marker, cache = tmp_path / "ran", tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    name = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save({"weight": torch.zeros(2), "x": Bomb(str(marker))}, cache / name)
    with pytest.raises(WeightsError, match="is not what its name states"):
        find("torchvision/squeezenet1_1")[0].state("IMAGENET1K_V1")
    assert not marker.exists()


def test_a_cached_file_with_another_hash_than_its_name_states_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    content = io.BytesIO()
    torch.save({"weight": torch.arange(4.0)}, content)
    digits = hashlib.sha256(content.getvalue()).hexdigest()[:8]
    whole, damaged, unnamed = (cache / name for name in (f"net-{digits}.pth", "net-f37072fd.pth", "net.pth"))
    for path in (whole, damaged, unnamed):
        path.write_bytes(content.getvalue())
    for path in (whole, unnamed):
        state = downloads.read_cached(f"https://host.invalid/{path.name}", hashed=True)
        assert state["weight"].tolist() == [0, 1, 2, 3]
    downloads.read_cached(f"https://host.invalid/{damaged.name}")  # whose source does not promise a hash
    expected = f"{re.escape(str(damaged))}: .* begins with f37072fd, it begins with {digits}.* remove it"
    with pytest.raises(WeightsError, match=expected):
        downloads.read_cached(f"https://host.invalid/{damaged.name}", hashed=True)
    content.getbuffer()[-1] ^= 1  # of the same size
    whole.write_bytes(content.getvalue())
    with pytest.raises(WeightsError, match="is not what its name states"):
        downloads.read_cached(f"https://host.invalid/{whole.name}", hashed=True)
