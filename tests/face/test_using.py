"""Train once on drawn people, then everything that one does with the model: predict, compare, enroll, identify, add."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import visiontl
from tests.face import made
from tests.face.made import write
from visiontl import cli
from visiontl.runs import store
from visiontl.testing import Case
from visiontl.testing.case import same, state
from visiontl.testing.checks import resumes


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on twelve drawn people; val and test hold four others each."""
    case = Case("face", tmp_path_factory.mktemp("using"), {"flip": True})
    report = visiontl.train(case.resolved("train.epochs=4", "train.batch_size=24", "run.name=faces"))
    assert report["scores_at_start"].keys() == {"val", "test"}
    return Path(report["run"])


@pytest.fixture(scope="module")
def people(run) -> Path:
    """Who was not trained on: ROOT/person_16/00.png ..."""
    return next(run.parents[1].rglob("faces/test"))


def face(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["face", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_predict_writes_embeddings_as_safetensors_and_json_lines(run, people, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["predict", str(run), str(people), f"--out={out}"]) == 0
    vectors = load_file(out / "embedding.safetensors")["embedding"]
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert vectors.shape == (len(records), 32) == (24, 32)
    assert [record["embedding"] for record in records] == [
        {"file": "embedding.safetensors", "row": i} for i in range(24)
    ]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    alone = visiontl.load(run).predict(records[5]["file"])["embedding"]
    np.testing.assert_allclose(alone, vectors[5], atol=1e-5)
    plain = visiontl.load(run).predict(records[5]["file"], flip=False)["embedding"]
    assert not np.allclose(plain, vectors[5], atol=1e-4)


def test_compare_states_similarity_threshold_and_verdict(run, people, capsys):
    images = sorted(people.rglob("*.png"))
    predictor = visiontl.load(run)
    similarity = float(np.dot(*(one["embedding"] for one in predictor.predict([images[0], images[1]]))))
    threshold = predictor.scores["threshold_at_far"]["0.1"]
    code, out, _ = face(capsys, "compare", run, images[0], images[1], "far=0.1")
    assert code == 0
    assert f"similarity {similarity:.4f}, threshold {threshold:.4f} (FAR 0.1 on 216 pairs" in out
    assert ("the same person" in out) == (similarity >= threshold)
    assert "verdict: the same person" in face(capsys, "compare", run, images[0], images[0])[1]
    assert "verdict: different people" in face(capsys, "compare", run, images[0], images[1], "threshold=1")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("far=0.001",), "had pairs enough for 0.01, 0.1"),
        (("far=0.1", "threshold=0.1"), "one of the two"),
        (("threshold=7",), "expected a number of at most 1"),
        (("threshold=x",), "expected a number"),
    ],
)
def test_thresholds_that_nobody_measured_are_refused(run, people, arguments, words, capsys):
    image = next(people.rglob("*.png"))
    code, _, err = face(capsys, "compare", run, image, image, *arguments)
    assert code == 2
    assert words in err


def test_a_model_without_validation_has_no_threshold(run, people, tmp_path, capsys):
    shutil.copytree(run / "model", tmp_path / "bare")
    (tmp_path / "bare/scores.json").unlink()
    manifest = json.loads((tmp_path / "bare" / store.MANIFEST).read_text())
    del manifest["files"]["scores.json"]
    (tmp_path / "bare" / store.MANIFEST).write_text(json.dumps(manifest))
    image = next(people.rglob("*.png"))
    code, _, err = face(capsys, "compare", tmp_path / "bare", image, image)
    assert code == 2
    assert "has no threshold" in err


def test_enroll_and_identify(run, people, tmp_path, capsys):
    """Two people are enrolled with four images each; the others are strangers."""
    for person in ("person_16", "person_17"):
        for number in range(4):
            target = tmp_path / "known" / person / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(people / person / f"{number:02d}.png", target)
    write(tmp_path / "known/person_17/broken.png", b"not a picture")
    code, out, _ = face(capsys, "enroll", run, tmp_path / "known", tmp_path / "gallery")
    assert code == 0
    assert "2 identities from 8 images enrolled" in out
    assert "broken.png" in out
    photos = [people / "person_16/05.png", people / "person_17/05.png", people / "person_19/00.png"]
    answers = tmp_path / "answers.jsonl"
    arguments = ["identify", run, tmp_path / "gallery", *photos]
    code, out, _ = face(capsys, *arguments, "--out", answers, "threshold=-1")
    assert code == 0
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    predictor = visiontl.load(run)
    for photo, record in zip(photos, records, strict=True):
        own = predictor.predict(photo)["embedding"]
        means = {}
        for person in ("person_16", "person_17"):
            files = sorted((tmp_path / "known" / person).glob("[0-9].png"))
            mean = np.mean([predictor.predict(file)["embedding"] for file in files], axis=0)
            means[person] = float(own @ mean / np.linalg.norm(mean))
        assert record["person"] == max(means, key=means.__getitem__)
        assert {one["person"]: one["similarity"] for one in record["nearest"]} == {
            who: pytest.approx(value, abs=1e-4) for who, value in means.items()
        }
    code, out, _ = face(capsys, *arguments, "threshold=1")
    assert out.count("unknown") == 3
    assert face(capsys, *arguments, "--out", answers, "threshold=0")[0] == 2, "answers are never overwritten"


def test_a_gallery_of_another_model_is_refused(run, people, tmp_path, capsys):
    assert face(capsys, "enroll", run, people, tmp_path / "gallery")[0] == 0
    built = visiontl.load(run).built
    with torch.no_grad():
        built.model.get_parameter("neck.linear.weight").mul_(0.9)
    visiontl.save_model(tmp_path / "other", built)
    code, _, err = face(capsys, "identify", tmp_path / "other", tmp_path / "gallery", people)
    assert code == 2
    assert "enrolled with another model" in err


def test_added_people_are_known_to_the_head_and_can_be_trained_on(run, people, tmp_path, capsys):
    code, out, _ = face(capsys, "add", run, people, tmp_path / "larger")
    assert code == 0
    assert "4 identities added to 12" in out
    before, after = visiontl.load(run).built, visiontl.load(tmp_path / "larger").built
    assert after.meta["identities"] == [*before.meta["identities"], *(f"person_{i}" for i in range(16, 20))]
    old, new = (built.model.get_parameter("head.weight") for built in (before, after))
    assert torch.equal(new[:12], old)
    image = next(people.glob("person_18/*.png"))
    embedding = torch.from_numpy(visiontl.load(tmp_path / "larger").predict(image)["embedding"])
    closest = torch.nn.functional.normalize(new[:, 0], dim=1) @ embedding
    assert int(closest.argmax()) == 14
    everybody = tmp_path / "everybody/train"
    shutil.copytree(people.parent / "train", everybody)
    shutil.copytree(people, everybody, dirs_exist_ok=True)
    shutil.copytree(people.parent / "val", tmp_path / "everybody/val")
    case = Case("face", tmp_path, {"data": str(tmp_path / "everybody"), "flip": True})
    started = case.run(f"init={tmp_path / 'larger'}")
    assert torch.equal(started.built.model.get_parameter("head.weight"), new)
    assert same(state(started), dict(after.model.state_dict())) == []
    code, _, err = face(capsys, "add", run, people.parent / "train", tmp_path / "again")
    assert code == 2
    assert "in the model already" in err


LFW = "2\t2\nPerson_A\t1\t2\nPerson_B\t1\t3\nPerson_A\t1\tPerson_C\t2\nPerson_D\t1\tPerson_E\t1\n"
LFW += "Person_C\t1\t2\nPerson_D\t2\t3\nPerson_B\t2\tPerson_F\t3\nPerson_C\t3\tPerson_F\t1\n"


def test_a_folder_and_a_list_of_lfws_are_evaluated(run, tmp_path):
    """Gray images among them; two folds of four pairs."""
    folder, pairs = made.lfw(tmp_path / "lfw"), write(tmp_path / "pairs.txt", LFW)
    scores = visiontl.evaluate(run, folder, overrides=[f"task.pairs={pairs}"])["scores"]["test"]
    assert scores["pairs"] == {"same": 4, "different": 4, "left out": 0}
    predictor = visiontl.load(run)
    fold = np.repeat([0, 1], 4)
    same_person = np.array([True, True, False, False] * 2)
    named = [line.split("\t") for line in LFW.splitlines()[1:]]
    named = [(a[0], a[1], a[0], a[2]) if len(a) == 3 else tuple(a) for a in named]
    similarity = np.array(
        [
            np.dot(
                *(
                    predictor.predict(folder / who / f"{who}_{int(n):04d}.jpg")["embedding"]
                    for who, n in ((a, i), (b, j))
                )
            )
            for a, i, b, j in named
        ]
    )
    accuracies = []
    for held in (0, 1):
        others = sorted(similarity[fold != held])
        middles = [others[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(others)), others[-1] + 1]
        rates = [((similarity >= t) == same_person)[fold != held].mean() for t in middles]
        good = [t for t, rate in zip(middles, rates, strict=True) if rate == max(rates)]
        found = {((similarity >= t) == same_person)[fold == held].mean() for t in good}
        accuracies.append(found)
    assert any(scores["accuracy"] == pytest.approx((a + b) / 2) for a in accuracies[0] for b in accuracies[1])


def test_the_report_shows_baselines_roc_and_confused_pairs(run):
    page = (run / "report.html").read_text()
    for words in (
        "Verification, with and without training",
        "features minus the training mean",
        "ROC",
        "Two people, most similar",
        "One person, least similar",
        "at the start",
        "not enough pairs",
    ):
        assert words in page


@pytest.mark.parametrize(
    "section",
    [
        {"loss": "triplet", "images_per_identity": 2, "neck": {"start": "centered"}},
        {"loss": {"name": "combined", "sub_centers": 2}, "augment": "light", "neck": {"dropout": 0.2}},
    ],
    ids=["triplets of P x K", "sub-centers, augmented"],
)
def test_other_ways_to_train_resume_with_the_same_bits(section, tmp_path):
    resumes(Case("face", tmp_path, section), None)
