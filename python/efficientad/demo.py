"""The demonstration: cloth with planted defects, from making the images to the verdicts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from efficientad.evaluation import Evaluation, ScoredImage, evaluate
from efficientad.pictures import ResultRow, png_bytes, result_table
from efficientad.run_images import NO_PENALTY
from efficientad.textures import make_dataset
from efficientad.training import TrainingConfig, train
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.model_file import write_atomically

logger = logging.getLogger(__name__)

STEPS = 400
_SEED = 0
_INPUT_SIZE = (128, 128)
_TRAIN, _VALIDATION, _TEST_GOOD, _TEST_EACH_DEFECT = 80, 24, 24, 10


def run_demo(output: Path, steps: int = STEPS) -> Evaluation:
    """Makes a data set, trains, evaluates, and leaves a picture; about two minutes on two cores.

    Writes to the folder ``output``: ``cloth/`` (the images), ``model.safetensors``,
    ``results.json`` and ``demo.png``. An interrupted demonstration continues where it was; what is
    trained is not trained again.

    Args:
        output: the folder, made if need be.
        steps: training steps.

    Returns:
        The evaluation on the test images.
    """
    output.mkdir(parents=True, exist_ok=True)
    data, model_file = output / "cloth", output / "model.safetensors"
    logger.info("making images of cloth in %s", data)
    make_dataset(data, _TRAIN, _VALIDATION, _TEST_GOOD, _TEST_EACH_DEFECT, _SEED)
    config = TrainingConfig("small", _INPUT_SIZE, steps, _SEED)
    train(data, model_file, config=config, penalty_images=NO_PENALTY, resume=True)
    detector = Detector.load(model_file)
    evaluation = evaluate(detector, data)
    write_atomically(
        output / "results.json", (json.dumps(evaluation.summary(), indent=2) + "\n").encode()
    )
    auroc = evaluation.figures.values["image_auroc"]
    caption = f"image AU-ROC {auroc:.3f} after {steps} steps"
    rows = [_row(detector, one) for one in _examples(evaluation)]
    picture = result_table(rows, detector.threshold, detector.map_threshold, caption)
    write_atomically(output / "demo.png", png_bytes(picture))
    return evaluation


def _examples(evaluation: Evaluation) -> list[ScoredImage]:
    """The first two good images, and the first of each kind of defect."""
    good = [one for one in evaluation.scored if not one.image.anomalous][:2]
    first_of_kind: dict[str, ScoredImage] = {}
    for one in evaluation.scored:
        if one.image.anomalous:
            first_of_kind.setdefault(one.image.label, one)
    return [*good, *first_of_kind.values()]


def _row(detector: Detector, scored: ScoredImage) -> ResultRow:
    image = load_image(scored.image.path)
    height, width = image.shape[:2]
    detection = detector(image, map_size=(height, width))
    return ResultRow(
        title=scored.image.label.replace("_", " "),
        image=image,
        map=detection.map[0, 0].numpy(),
        score=scored.score,
        anomalous=scored.verdict,
    )
