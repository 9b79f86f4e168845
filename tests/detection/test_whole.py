"""torchvision's whole detectors as a start: the same answers, rows by name, scores as pycocotools has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import save_file
from torchvision.models import get_model, resnet18
from torchvision.models.detection import faster_rcnn, fcos, retinanet
from torchvision.ops import remove_small_boxes
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms.functional import pil_to_tensor
from visiontl_detection.model import Detector
from visiontl_detection.whole import placed, renamed
from visiontl_detection.wholes import DESIGNS

from tests.detection.made import SPLITS, coco
from tests.shared import shared
from visiontl import VisionTLError, cli, load_backbone
from visiontl.config.resolve import resolve
from visiontl.engine.as_it_is import as_it_is
from visiontl.engine.init import backbone_like, warm_start
from visiontl.engine.model import build_model
from visiontl.engine.prepare import set_up
from visiontl.engine.start import read_data
from visiontl.engine.train import fit
from visiontl.engine.wholes import whole_of, with_start
from visiontl.plugins import backbone_entry
from visiontl.report.console import Console

CLASSES = ["cat", "dog", "cow"]
SIZES = ["task.size.short=64", "task.size.long=96"]


def theirs(name: str, **values):
    """torchvision's own model with random weights whose answers differ: scores above the threshold, other norms."""
    torch.manual_seed(0)
    count = len(CLASSES) + (DESIGNS[name].head == "faster_rcnn")
    model = get_model(
        name, weights=None, weights_backbone=None, num_classes=count, **{"min_size": 64, "max_size": 96, **values}
    )
    return moved(model)


def moved(model):
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.8, 1.25)
            elif key.endswith("running_mean"):
                value.uniform_(-0.1, 0.1)
            elif key.endswith(("cls_logits.bias", "cls_score.bias")):
                value.uniform_(-1, 1)
            elif key.endswith(("cls_logits.weight", "cls_score.weight")):
                value.normal_(0, 0.1)  # else all places have nearly one score, in an order that rounding decides
            elif key.endswith("bbox_reg.bias"):
                value.uniform_(0.5, 1)
    return model.eval()


def saved(model, folder: Path, names=CLASSES) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, folder / "whole.safetensors")
    if names:
        (folder / "classes.txt").write_text("\n".join(names))
    return folder / "whole.safetensors"


def compare(init: str, model, data: Path, first: int):
    """The same labels, scores to 1e-9, boxes to 1e-9 of the photo's side, in its pixels."""
    coco(data, SPLITS)
    built, found, *_ = as_it_is(init, data, SIZES, Console(main=False)) if ":" in init else alone(init, data)
    split, task, cfg, meta = found.val, built.resolved.task, built.resolved.cfg, built.meta
    batch = task.collate(cfg, [split[0, 0]], None, meta)
    with torch.no_grad():
        ours = built.model(batch)["detections"][0]
        wanted = model([pil_to_tensor(split.image(0)).float() / 255])[0]
    kept = remove_small_boxes(wanted["boxes"], 1e-3)  # without an extent they are no detections here
    wanted = {key: value[kept] for key, value in wanted.items()}
    assert len(kept) > 5
    assert torch.equal(ours["labels"], wanted["labels"] - first)
    torch.testing.assert_close(ours["scores"], wanted["scores"], rtol=0, atol=1e-9)
    torch.testing.assert_close(ours["boxes"], wanted["boxes"], rtol=0, atol=1e-9 * max(split.image(0).size))


def alone(file: str, data: Path):
    """A file that does not say what it is, with its own classes, on data of these."""
    config = {"task": {"name": "detection", "data": str(data)}, "init": file}
    resolved = with_start(resolve(config, SIZES), Console(main=False))
    entry, _ = backbone_entry(resolved.config.backbone.name)
    meta = whole_of(resolved.task, file).meta(resolved.cfg, CLASSES)
    built = build_model(resolved, backbone_like(resolved, entry), meta)
    assert warm_start(built, Console(main=False))
    built.model.eval()
    return built, read_data(built.resolved, built.backbone.spec, built.meta)


@pytest.mark.parametrize("name", [name for name in DESIGNS if "mobile" in name or name == "retinanet_resnet50_fpn_v2"])
def test_answers_are_the_librarys(name, tmp_path, double):
    model = theirs(name)
    first = 1 if DESIGNS[name].head == "faster_rcnn" else 0
    compare(f"torchvision/{name}:{saved(model, tmp_path)}", model, tmp_path / "data", first)


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"]
)
def test_a_file_says_what_it_is(name, tmp_path, monkeypatch, double):
    """The library's constructors on a ResNet-18: the head, its design and the backbone are told by names and shapes."""
    for module in (faster_rcnn, retinanet, fcos):
        monkeypatch.setattr(module, "resnet50", resnet18)
    model = theirs(name)
    first = 1 if DESIGNS[name].head == "faster_rcnn" else 0
    compare(str(saved(model, tmp_path)), model, tmp_path / "data", first)


def judged(truth: COCO, results: list[dict]) -> list[float]:
    """mAP, AP50 and AP75 of pycocotools."""
    judge = COCOeval(truth, truth.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return [float(value) for value in judge.stats[:3]]


def as_results(image: int, number: dict[str, int], found: dict[str, torch.Tensor]) -> list[dict]:
    """Detections, labels from 0, in COCO's layout; those of classes that the data do not have are left out."""
    results = []
    for (x1, y1, x2, y2), score, label in zip(
        *(found[key].tolist() for key in ("boxes", "scores", "labels")), strict=True
    ):
        if CLASSES[label] in number:
            one = {"image_id": image, "category_id": number[CLASSES[label]], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            results.append({**one, "score": score})
    return results


def test_scores_of_a_model_as_it_is_are_pycocotools_of_the_librarys_answers(tmp_path, monkeypatch, capsys):
    """`visiontl evaluate torchvision/NAME:FILE DATA` against a plain script, photo by photo: of the same boxes to the
    last digit. The library's differ in the last bits of their scores, which decide the order of a random net's: with
    its scores on our boxes the library's mAP is met to the last digit too."""
    monkeypatch.chdir(tmp_path)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = theirs(name)
    photos = list({**SPLITS["val"], **SPLITS["train"]}.values())
    data = coco(tmp_path / "data", {"train": SPLITS["train"], "val": {f"v{i}": one for i, one in enumerate(photos)}})
    truth = COCO(str(data / "annotations/val.json"))
    number = {one["name"]: one["id"] for one in truth.dataset["categories"]}
    options = [*SIZES, "train.eval_batch_size=1", "train.precision=fp32", "train.channels_last=false"]
    text = f"torchvision/{name}:{saved(model, tmp_path)}"
    built, found, *_ = as_it_is(text, "data", options, Console(main=False))
    task, plain, ours, crossed = built.resolved.task, [], [], []
    for id, image in enumerate(truth.dataset["images"]):
        photo = pil_to_tensor(Image.open(data / "images" / image["file_name"]).convert("RGB")).float() / 255
        batch = task.collate(built.resolved.cfg, [found.val[id, 0]], None, built.meta)
        with torch.no_grad():
            library, own = model([photo])[0], built.model(batch)["detections"][0]
        library["labels"] = library["labels"] - 1
        plain += as_results(image["id"], number, library)
        ours += as_results(image["id"], number, own)
        apart = (own["boxes"][:, None] - library["boxes"][None]).abs().amax(2)  # (N, M) pixels
        apart[own["labels"][:, None] != library["labels"][None]] = torch.inf
        distance, same = apart.min(1)
        assert int((distance > 1e-4).sum()) <= 1  # of two boxes of one score suppression may keep the other
        assert distance.max() < 0.1
        assert len(set(same.tolist())) == len(same) == len(library["scores"])
        torch.testing.assert_close(own["scores"], library["scores"][same], rtol=0, atol=1e-6)
        crossed += as_results(image["id"], number, {**own, "scores": library["scores"][same]})
    words = ["evaluate", text, "data", *options, "loader.workers=0", "--split", "val", "--json"]
    assert cli.main(words) in (0, None)
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]["val"]
    measured, wanted = [scores[key] for key in ("mAP", "AP50", "AP75")], judged(truth, plain)
    assert measured == pytest.approx(judged(truth, ours), abs=1e-12)
    assert judged(truth, crossed) == pytest.approx(wanted, abs=1e-12)
    assert measured == pytest.approx(wanted, abs=1e-3)
    assert wanted[1] > 0


def few(bccd: Path, folder: Path) -> dict[str, str]:
    """The first photos of each split."""
    folder.mkdir()
    (folder / "images").symlink_to(bccd / "JPEGImages")
    for split, count in (("train", 6), ("val", 2)):
        found = json.loads((bccd / f"annotations_coco/{split}.json").read_text())
        found["images"] = found["images"][:count]
        kept = {one["id"] for one in found["images"]}
        found["annotations"] = [one for one in found["annotations"] if one["image_id"] in kept]
        (folder / f"{split}.json").write_text(json.dumps(found))
    return {"folder": str(folder), "format": "coco", "train": "train.json", "val": "val.json", "images": "images"}


def test_a_short_fine_tuning_keeps_rows_by_name(tmp_path):
    """From three classes to two of them and one that is new, on photos of blood cells."""
    bccd = shared("data/detection/bccd")
    model = theirs("fasterrcnn_mobilenet_v3_large_320_fpn")
    file = saved(model, tmp_path, ["WBC", "cow", "RBC"])
    config = {
        "task": {"name": "detection", "data": few(bccd, tmp_path / "few")},
        "init": f"torchvision/fasterrcnn_mobilenet_v3_large_320_fpn:{file}",
        "run": {"folder": str(tmp_path / "runs"), "name": "r"},
        "loader": {"workers": 0},
        "train": {"epochs": 1, "batch_size": 2},
    }
    run = set_up(resolve(config, ["task.size.short=64", "task.size.long=96"]), limit=2, console=(heard := Console()))
    state, given = run.built.model.state_dict(), model.state_dict()
    at, theirs_at = "net.roi_heads.box_predictor", "roi_heads.box_predictor"
    assert run.built.meta["classes"] == ["Platelets", "RBC", "WBC"]
    for row, old in ((0, 0), (2, 3), (3, 1)):  # background, RBC, WBC
        assert torch.equal(state[f"{at}.cls_score.weight"][row], given[f"{theirs_at}.cls_score.weight"][old])
        boxes = f"{theirs_at}.bbox_pred.bias"
        assert torch.equal(state[f"{at}.bbox_pred.bias"][4 * row : 4 * row + 4], given[boxes][4 * old : 4 * old + 4])
    assert not torch.equal(state[f"{at}.cls_score.weight"][1], given[f"{theirs_at}.cls_score.weight"][2])
    notes = "\n".join(heard.notes)
    assert "kept by name 2 (RBC, WBC); new 1 (Platelets); left out 1 (cow)" in notes
    assert re.search(r"backbone (\d+) of \1, neck (\d+) of \2, head (\d+) of \3", notes)
    ledger = fit(run)
    assert ledger.progress.step == 2
    assert run.resolved.config.backbone.name == "torchvision/mobilenet_v3_large"
    assert run.resolved.cfg.pyramid == ["features.13", "features.16"]


def refused(said: str, init: str, *overrides: str):
    config = {"task": {"name": "detection", "data": "nowhere"}, "init": init}
    with pytest.raises(VisionTLError, match=said):
        with_start(resolve(config, overrides), Console(main=False))


def test_what_is_no_start_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", absent)
    refused("no whole model 'torchvision/fcos_resnet5_fpn'.*did you mean", "torchvision/fcos_resnet5_fpn")
    refused("has no weights 'COCO_V7'", "torchvision/fcos_resnet50_fpn:COCO_V7")
    refused("load_state_dict_from_url.*init=torchvision/fcos_resnet50_fpn:FILE", "torchvision/fcos_resnet50_fpn")
    refused("is a model of the task segmentation", "torchvision/fcn_resnet50")
    torch.save({"state_dict": {"classifier.weight": torch.zeros(2)}}, tmp_path / "a.pth")
    refused("it looks like a segmentation or classification model", str(tmp_path / "a.pth"))
    refused("is no fcos_resnet50_fpn, or only a part of one", f"torchvision/fcos_resnet50_fpn:{tmp_path / 'a.pth'}")
    (tmp_path / "b.pth").write_bytes(b"\x80\x04cos\nsystem\n.")
    refused("b.pth", str(tmp_path / "b.pth"))
    file = saved(theirs("fasterrcnn_mobilenet_v3_large_fpn"), tmp_path / "own", ["a", "b"])
    refused("2 names of classes for a model with 3", str(file))
    (file.parent / "classes.txt").unlink()
    refused("has task.head=faster_rcnn, the config fcos", str(file), "task.head=fcos")
    refused("has backbone.name=torchvision/mobilenet_v3_large, the config", str(file), "backbone.name=resnet18")


def absent(*_args, **_more):
    raise OSError("no network")


def test_files_of_older_torchvision_and_norms_of_no_epsilon():
    """The names of 2019's files; and what a norm of another epsilon adds to a variance, taken off its scale."""
    old = {"backbone.fpn.inner_blocks.0.weight": 1, "rpn.head.conv.bias": 2, "backbone.fpn.layer_blocks.3.0.bias": 3}
    assert list(renamed(old)) == [
        "backbone.fpn.inner_blocks.0.0.weight", "rpn.head.conv.0.0.bias", "backbone.fpn.layer_blocks.3.0.bias",
    ]  # fmt: skip
    old = {f"head.classification_head.conv.{i}.weight": i for i in (0, 2, 4, 6)}
    assert list(renamed(old)) == [f"head.classification_head.conv.{i}.0.weight" for i in range(4)]

    class Bare(Detector):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.net = torch.nn.Module()
            self.net.backbone = torch.nn.Module()
            self.net.backbone.backbone = load_backbone("torchvision/resnet18", "none")

    bare, x = Bare(), torch.rand(2, 64, 5, 5)
    frozen = FrozenBatchNorm2d(64, eps=0.0)
    frozen.running_var.uniform_(1e-4, 1e-3)
    frozen.running_mean.uniform_(-1, 1)
    state = {f"backbone.body.bn1.{k}": v for k, v in frozen.state_dict().items()}
    made = placed(bare, state, 0.0)
    norm = bare.net.backbone.backbone.body.bn1
    norm.load_state_dict({k.rpartition(".")[2]: v for k, v in made.items()}, strict=False)
    torch.testing.assert_close(norm.eval()(x), frozen(x), rtol=1e-5, atol=1e-5)
