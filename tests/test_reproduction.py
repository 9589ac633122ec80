"""Whole collections, made small: what is trained, what is left alone, and what is printed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result
from efficientad import training
from efficientad.checkpoint import checkpoint_path
from efficientad.cli import main
from efficientad.cli.reproduction import TABLE_NAMES
from efficientad.datasets.visa import find_dataset
from efficientad.reproduction import (
    TABLES,
    Category,
    RunConfig,
    ablate,
    find_categories,
    reproduce,
)
from efficientad.reproduction import experiment as experiment_module
from efficientad.reproduction import run as run_module
from efficientad.reproduction.collection import OTHER
from efficientad.reproduction.processes import Failure, _Processes, default_jobs
from efficientad.reproduction.results import Results, spread
from efficientad.reproduction.tables import format_table, reproduction_tables
from efficientad.teacher import Teacher
from efficientad.textures import make_dataset

from efficientad_ext.model_file import load_model

CONFIG = RunConfig(steps=2, input_size=(128, 128))


def make_category(root: Path, seed: int = 1) -> Path:
    make_dataset(root, train=3, validation=2, test_good=2, test_each_defect=1, seed=seed)
    return root


def as_loco(root: Path) -> Path:
    """A category of MVTec AD with the kinds of defects that MVTec LOCO has."""
    for part in ("test", "ground_truth"):
        (root / part / "hole").rename(root / part / "logical_anomalies")
        (root / part / "stain").rename(root / part / "structural_anomalies")
        shutil.rmtree(root / part / "scratch")
    return root


@pytest.fixture(scope="module", autouse=True)
def _short_timing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_passes", lambda _device: 1)
        yield


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories, one of MVTec AD and one of MVTec LOCO, and folders that are none."""
    root = tmp_path_factory.mktemp("collection")
    make_category(root / "bottle", seed=2)
    as_loco(make_category(root / "juice_bottle", seed=3))
    (root / "notes" / "empty").mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, collection: Path, tiny_teacher: Teacher) -> Path:
    """The output of a finished reproduction of both categories."""
    output = tmp_path_factory.mktemp("output") / "new"
    report = reproduce([collection], output, {"small": tiny_teacher}, CONFIG)
    assert report.failures == ()
    return output


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a training was not expected")

    monkeypatch.setattr(experiment_module, "train", refuse)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_categories_are_found_by_their_layout(collection: Path, tmp_path: Path):
    bottle, juice = find_categories([collection])
    assert (bottle.name, bottle.format, bottle.collection) == ("bottle", "mvtec_ad", "MVTec AD")
    assert (juice.format, juice.collection) == ("mvtec_loco", "MVTec LOCO")
    assert find_categories([collection], ["juice_bottle"]) == (juice,)
    assert find_categories([collection / "bottle"]) == (bottle,)
    # A name that another collection has is no member of this one.
    assert Category("candle", tmp_path, "mvtec_ad").collection == OTHER
    assert Category("candle", tmp_path, "visa").collection == "VisA"
    assert Category("bottle", tmp_path, "folder").collection == OTHER


def test_visas_categories_and_lists(tmp_path: Path):
    for name in ("candle", "pcb1"):
        (tmp_path / name / "Data/Images").mkdir(parents=True)
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\ncandle,train,normal,candle/Data/Images/0.JPG,\n"
    )
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed/images.csv").write_text("image,split,label,mask\n")
    found = find_categories([tmp_path])
    assert [(one.name, one.format) for one in found] == [
        ("candle", "visa"), ("listed", "folder"), ("pcb1", "visa")
    ]  # fmt: skip
    assert len(find_dataset(found[0].folder).train) == 1


def test_categories_that_cannot_be_found(collection: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no category 'botle'; there are bottle, juice_bottle"):
        find_categories([collection], ["botle"])
    with pytest.raises(ValueError, match="holds no category"):
        find_categories([tmp_path])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_categories([tmp_path / "none"])
    with pytest.raises(ValueError, match="have the same name"):
        find_categories([collection, collection / "bottle"])


def result_of(detection: float, collection: str, category: str) -> dict[str, object]:
    return {"collection": collection, "category": category, "detection": detection}


def test_means_are_of_the_collections_means_and_spreads_of_the_seeds():
    results = Results()
    for seed, better in enumerate((0.0, 0.01)):
        results.add(seed, result_of(0.9 + better, "MVTec AD", "bottle"))
        results.add(seed, result_of(0.7 + better, "MVTec AD", "cable"))
        results.add(seed, result_of(0.6 + better, "VisA", "candle"))
    assert results.collections == ("MVTec AD", "VisA")
    # (0.9 + 0.7) / 2 = 0.8; (0.8 + 0.6) / 2 = 0.7; deviation of 0 and 1 with divisor 1: 0.7071.
    assert str(results.of_collection("detection", "MVTec AD")) == "80.50 ± 0.71"
    assert str(results.overall("detection")) == "70.50 ± 0.71"
    assert str(results.of_category("detection", "VisA", "candle")) == "60.50 ± 0.71"
    assert str(spread([0.5, None])) == "50.00"
    assert spread([None]) is None


def test_means_over_seeds_are_of_the_same_categories():
    results = Results()
    for seed, categories in enumerate((("bottle", "cable"), ("bottle",))):
        for category, figure in zip(categories, (0.9, 0.5), strict=False):
            results.add(
                seed,
                {
                    **result_of(figure, "MVTec AD", category),
                    "localisation": None,
                    "puad": None,
                },
            )
    results.add(0, {**result_of(0.4, "VisA", "candle"), "localisation": None, "puad": None})
    assert str(results.of_collection("detection", "MVTec AD")) == "90.00 ± 0.00"
    assert results.of_collection("detection", "VisA") is None
    assert str(results.overall("detection")) == "90.00 ± 0.00"
    assert "(MVTec AD: 1 of 15, VisA: 0 of 12)" in reproduction_tables({"small": results}, {})[1][0]


def test_published_figures_stand_beside_what_was_found():
    results = Results()
    results.add(0, {**result_of(0.5, "MVTec AD", "bottle"), "localisation": None, "puad": 0.6})
    tables = reproduction_tables({"medium": results}, {})
    table_1, table_2 = tables[1], tables[2]
    assert "MVTec AD: 1 of 15" in table_1[0]
    assert table_1[2].split() == [
        "EfficientAD-M", "50.00", "96.0", "-", "93.3", "-", "4.5", "-", "269"
    ]  # fmt: skip
    assert table_2[2].split() == [
        "EfficientAD-M", "50.00", "99.1", "-", "90.7", "-", "98.1", "50.00", "96.0"
    ]  # fmt: skip
    assert len(tables) == 3


def test_columns_are_aligned():
    assert format_table("t", ["", "long name"], [["row", 1.5], ["longer", None]]) == [
        "t", "        long name", "row           1.5", "longer          -"
    ]  # fmt: skip


@pytest.mark.usefixtures("no_training")
def test_a_reproduction_leaves_results_and_tables(done: Path, collection: Path):
    for category in ("bottle", "juice_bottle"):
        folder = done / "small" / category
        assert sorted(path.name for path in folder.iterdir()) == [
            "seed-0.puad-student.json", "seed-0.safetensors"
        ]  # fmt: skip
        result = json.loads((folder / "seed-0.puad-student.json").read_text())
        assert result["settings"]["steps"] == 2
        assert result["puad"] == result["evaluation"]["image_auroc"]
        assert 0 <= result["localisation"] <= 1
    # One kind of defect each: the equally weighted figure is the mean of the two.
    images = result["evaluation"]["images"]
    good = [one["picturable_score"] for one in images if one["label"] == "good"]
    beaten = [
        sum(one["picturable_score"] > score for score in good) / len(good)
        for one in images
        if one["label"] != "good"
    ]
    assert result["detection"] == pytest.approx(sum(beaten) / 2)
    again = run(
        "reproduce", collection, "-o", done, "--steps", 2, "--image-size", "128x128",
        "--teacher", "random", "--device", "cpu",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    assert "2 of 2 experiments are done" in again.stderr
    first = {line.split()[0]: line.split() for line in again.stdout.splitlines() if line.strip()}
    detection = f"{100 * result['detection']:.2f}"
    assert first["juice_bottle"][-4:] == [
        f"{100 * result['detection_pooled']:.2f}", "97.9", f"{100 * result['puad']:.2f}", "99.68"
    ]  # fmt: skip
    assert "EfficientAD-S, 1 seed\n" in again.stdout
    assert detection in again.stdout
    assert "MVTec AD: 1 of 15, MVTec LOCO: 1 of 5" in again.stdout
    timing = json.loads((done / "small/timing.json").read_text())
    assert timing["device"] in again.stdout
    assert f"{timing['latency']['mean']:.2f}" in again.stdout


def test_every_size_seed_and_category_is_an_experiment(
    tmp_path: Path, collection: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    given = []

    def record(experiments, jobs):
        given.extend((one.title, jobs) for one in experiments)
        return ()

    monkeypatch.setattr(run_module, "run_experiments", record)
    teachers = {"small": tiny_teacher, "medium": replace(tiny_teacher, size="medium")}
    report = reproduce([collection], tmp_path, teachers, replace(CONFIG, seeds=2, jobs=20))
    assert given == [
        (f"{category} ({size}, seed {seed})", 8)
        for seed in (0, 1)
        for size in ("small", "medium")
        for category in ("bottle", "juice_bottle")
    ]
    # The tables come without results, too.
    assert [lines[0].partition(":")[0] for lines in report.tables] == ["Table 1", "Table 2"]
    assert "no results" in report.tables[0][0]


@pytest.mark.usefixtures("no_training")
def test_only_what_is_missing_is_done(done: Path, collection: Path, tiny_teacher: Teacher):
    result = done / "small/bottle/seed-0.puad-student.json"
    model = done / "small/bottle/seed-0.safetensors"
    before, trained = result.read_bytes(), model.stat().st_mtime_ns
    other = done / "small/juice_bottle/seed-0.puad-student.json"
    untouched = other.stat().st_mtime_ns
    result.unlink()
    report = reproduce([collection], done, {"small": tiny_teacher}, CONFIG)
    assert report.failures == ()
    assert result.read_bytes() == before
    assert (model.stat().st_mtime_ns, other.stat().st_mtime_ns) == (trained, untouched)


@pytest.mark.usefixtures("no_training")
def test_results_with_other_settings_are_not_mixed(
    done: Path, collection: Path, tiny_teacher: Teacher, tmp_path: Path
):
    other = RunConfig(steps=3, input_size=(128, 128))
    with pytest.raises(ValueError, match="steps is 2 there and 3 here; choose another folder"):
        reproduce([collection], done, {"small": tiny_teacher}, other)
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    file = copy / "small/bottle/seed-0.puad-student.json"
    (copy / "small/bottle/seed-0.safetensors").unlink()
    with pytest.raises(ValueError, match="steps is 2 there and 3 here"):
        reproduce([collection], copy, {"small": tiny_teacher}, other, categories=["bottle"])
    file.write_text("{")
    with pytest.raises(ValueError, match="is not a result of this program"):
        reproduce([collection], copy, {"small": tiny_teacher}, CONFIG, categories=["bottle"])


@pytest.mark.usefixtures("no_signal_is_ignored")
def test_an_interrupted_training_is_continued(
    tmp_path: Path,
    collection: Path,
    done: Path,
    tiny_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
    warnings_logged: pytest.LogCaptureFixture,
):
    losses_of_step = training.training_losses

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return losses_of_step(*arguments)

    def go_on() -> None:
        reproduce([collection], tmp_path, {"small": tiny_teacher}, CONFIG, categories=["bottle"])

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_losses", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go_on()
    model = tmp_path / "small/bottle/seed-0.safetensors"
    assert checkpoint_path(model).exists()
    assert not model.exists()
    go_on()
    assert "resuming after step 1 of 2" in warnings_logged.text
    assert not checkpoint_path(model).exists()
    assert model.read_bytes() == (done / "small/bottle/seed-0.safetensors").read_bytes()


def broken_collection(collection: Path, root: Path) -> Path:
    """Three categories, the second of which has no readable training image."""
    root.mkdir()
    (root / "bottle").symlink_to(collection / "bottle")
    (root / "juice_bottle").symlink_to(collection / "juice_bottle")
    (root / "cable/train/good").mkdir(parents=True)
    (root / "cable/train/good/0.png").write_text("no image")
    return root


def test_a_category_that_fails_does_not_stop_the_others(
    tmp_path: Path, collection: Path, done: Path
):
    root = broken_collection(collection, tmp_path / "collection")
    output = tmp_path / "output"
    shutil.copytree(done, output)
    (output / "small/juice_bottle/seed-0.puad-student.json").unlink()
    result = run(
        "reproduce", root, "-o", output, "--steps", 2, "--image-size", "128x128",
        "--teacher", "random", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "Table 1" in result.stdout
    assert (output / "small/juice_bottle/seed-0.puad-student.json").exists()
    *_, reason, last = result.stderr.strip().splitlines()
    assert reason.startswith("cable (small, seed 0): none of the training images in")
    assert last == "Error: 1 experiments failed; see above for why"


def test_several_at_once_in_processes_of_their_own(
    tmp_path: Path, collection: Path, tiny_teacher: Teacher
):
    root = broken_collection(collection, tmp_path / "collection")
    config = RunConfig(steps=1, input_size=(128, 128), jobs=2)
    names = ["bottle", "cable"]
    report = reproduce(
        [root], tmp_path / "output", {"small": tiny_teacher}, config, categories=names
    )
    [failure] = report.failures
    assert failure.experiment.category.name == "cable"
    assert failure.reason.startswith("none of the training images in")
    assert (tmp_path / "output/small/bottle/seed-0.puad-student.json").exists()
    log = (tmp_path / "output/small/cable/seed-0.log").read_text()
    assert "skipped an image" in log
    assert "Traceback" in log


def test_processes_save_their_state_when_they_are_stopped(tmp_path: Path, collection: Path):
    arguments = [
        "reproduce", collection, "-o", tmp_path, "--steps", 100_000, "--image-size", "128x128",
        "--teacher", "random", "--device", "cpu", "--jobs", 2,
    ]  # fmt: skip
    folders = [tmp_path / "small" / category for category in ("bottle", "juice_bottle")]
    command = [sys.executable, "-I", "-m", "efficientad", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: all("training:" in text_of(folder / "seed-0.log") for folder in folders))
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert "the same command goes on from here" in errors
    for folder in folders:
        assert (folder / "seed-0.safetensors.checkpoint").exists()
        assert "continue with --resume" in text_of(folder / "seed-0.log")


def test_processes_end_with_whoever_began_them(tmp_path: Path, collection: Path):
    arguments = [
        "reproduce", collection, "-o", tmp_path, "--steps", 100_000, "--image-size", "128x128",
        "--teacher", "random", "--device", "cpu", "--jobs", 2,
    ]  # fmt: skip
    logs = [tmp_path / "small" / name / "seed-0.log" for name in ("bottle", "juice_bottle")]
    command = [sys.executable, "-I", "-m", "efficientad", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: all("training:" in text_of(log) for log in logs))
        process.kill()
    wait_until(lambda: all("continue with --resume" in text_of(log) for log in logs))


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def test_a_process_that_is_killed_is_a_failure_like_others(
    warnings_logged: pytest.LogCaptureFixture,
):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.close()
    experiment = SimpleNamespace(title="bottle (small, seed 0)")
    process = SimpleNamespace(exitcode=-9, join=lambda: None)
    processes = _Processes([], 2)
    processes._running[7] = (process, receiver, experiment)
    processes._end(7)
    assert processes._failures == [Failure(experiment, "its process ended with exit status -9")]
    assert "bottle (small, seed 0) failed: its process" in warnings_logged.text


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch):
    assert default_jobs("cpu", ["small"], (256, 256)) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (20 * 2**30, 80 * 2**30))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert default_jobs("cuda", ["small"], (256, 256)) == 6
    assert default_jobs("cuda", ["small", "medium"], (128, 128)) == 3
    assert default_jobs("cuda", ["medium"], (512, 512)) == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert default_jobs("cuda", ["small"], (256, 256)) == 2


@pytest.mark.parametrize("name", ["seeds", "jobs"])
def test_settings_out_of_range(name: str):
    with pytest.raises(ValueError, match=f"{name} is 0; expected at least 1"):
        RunConfig(**{name: 0})


def test_every_table_has_its_command_line_name_and_published_figures():
    assert tuple(TABLES) == TABLE_NAMES
    published = {
        name: [row.published for size in table.sizes for row in table.rows(size)]
        for name, table in TABLES.items()
    }
    assert published["quantiles"] == [
        95.9, 95.9, 96.0, 95.9, 95.9, 95.8, 95.8, 95.9, 96.0, 96.0, 95.9, 95.9
    ]  # fmt: skip
    assert published["p-hard"] == [94.9, 94.9, 95.7, 96.0, 95.8, 95.7]
    assert published["cumulative"] == [93.2, 94.0, 95.0, 95.4]
    assert published["isolated"] == [95.4, None, None, None]
    assert published["puad"] == [93.18, None, 94.44, None]
    # None is known for the other network.
    assert {row.published for row in TABLES["p-hard"].rows("small")} == {None}


@pytest.mark.parametrize(
    ("name", "trainings", "results"),
    [("quantiles", 1, 11), ("p-hard", 6, 6), ("cumulative", 3, 4), ("isolated", 3, 4),
     ("puad", 1, 2)],
)  # fmt: skip
def test_rows_share_what_they_can(name: str, trainings: int, results: int):
    rows = TABLES[name].rows("small")
    assert len({row.training for row in rows}) == trainings
    assert len({(row.training.name, row.calibration.name) for row in rows}) == results


def test_ablations_train_only_what_their_rows_need(
    tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
):
    train, trained = experiment_module.train, []

    def recorded(data, output, teacher, config, **keywords):
        trained.append((config.p_hard, keywords["penalty_images"]))
        return train(data, output, teacher, config, **keywords)

    monkeypatch.setattr(experiment_module, "train", recorded)
    arguments = [
        "ablate", collection, "-o", tmp_path, "--categories", "bottle", "--size", "small",
        "--steps", 1, "--image-size", "128x128", "--teacher", "random", "--device", "cpu",
    ]  # fmt: skip
    result = run(*arguments, "--table", "cumulative", "--table", "puad")
    assert result.exit_code == 0, result.output
    assert trained == [(0.0, "none"), (0.999, "none"), (0.999, "procedural")]
    plain = tmp_path / "small-p_hard-0-without-penalty/bottle"
    assert load_model(plain / "seed-0.safetensors").training["p_hard"] == 0
    figures = {}
    for name in ("gaussian", "puad-student"):
        content = json.loads((plain / f"seed-0.{name}.json").read_text())
        figures[name] = f"{100 * content['detection']:.2f}"
    assert json.loads((plain / "seed-0.gaussian.json").read_text())["settings"]["quantiles"] is None
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["PDN", figures["gaussian"], figures["gaussian"], "93.2"] in lines
    assert [
        "+", "map", "normalisation", figures["puad-student"], figures["puad-student"], "94.0"
    ] in lines  # fmt: skip
    teacher = tmp_path / "small/bottle/seed-0.puad-teacher.json"
    content = json.loads(teacher.read_text())
    assert content["settings"]["PUAD's features"] == "teacher"
    puad = f"{100 * content['puad']:.2f}"
    assert ["PUAD-S,", "teacher's", "features", puad, puad, "-"] in lines
    # The models have the papers' calibration.
    assert load_model(plain / "seed-0.safetensors").quantile_levels == (0.9, 0.995)
    assert load_model(tmp_path / "small/bottle/seed-0.safetensors").feature_source == "student"

    trained.clear()
    result = run(*arguments, "--table", "isolated")
    assert result.exit_code == 0, result.output
    assert trained == [(0.0, "procedural")]


def test_ablations_that_cannot_be(tmp_path: Path, collection: Path, tiny_teacher: Teacher):
    with pytest.raises(ValueError, match="no table 'hard'; there are quantiles, "):
        ablate([collection], tmp_path, {"small": tiny_teacher}, ["hard"])
    config = RunConfig(penalty_images="none")
    with pytest.raises(ValueError, match="others need penalty images"):
        ablate([collection], tmp_path, {"small": tiny_teacher}, ["isolated"], config)
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_file_for_the_size(tmp_path: Path, collection: Path):
    none = tmp_path / "none.pth"
    result = run("reproduce", collection, "-o", tmp_path, "--teacher", none)
    assert f"{none} does not exist" in result.stderr
