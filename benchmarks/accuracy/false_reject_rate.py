"""Whether the threshold keeps the false-reject rate that it promises.

    python benchmarks/accuracy/false_reject_rate.py --json result.json [--model MODEL --data DATA]

Draws calibration scores again and again, chooses the threshold as `efficientad.threshold` does, and
counts how often the false-reject rate lies within what was promised. Expected are at least 95 of
100; fewer than three standard deviations of chance below that is a failure.

On synthetic distributions, with heavy tails and with ties, the rate is known from the distribution.

With a model and its data set (the folder that it was trained on, with test/good), on the scores of
normal images that it was not trained on, three questions:

- resampled: the scores are taken for a distribution, and calibration scores are drawn from it with
  replacement; the rate is the share of all scores above the threshold.
- split: the scores are split at random, and the rate is measured on those left over. These are few,
  so that the measured rate scatters about the true one, and lies within the promise less often than
  95 times in 100, although the true one does not. How often it should, is known: without ties, the
  number of rejected images has a negative hypergeometric distribution, whatever the scores are. So
  the shares are judged by that, and ties can only raise them.
- held out: neither of these can tell whether the images that calibrate are like those to come. So
  the threshold is chosen once on the validation images and measured once on test/good, with the
  probability of as many rejects or more if they are alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from efficientad.datasets import find_test_set
from efficientad.run_images import find_normal_images
from efficientad.threshold import CONFIDENCE, choose_threshold, promised_rate, rank
from scipy import stats

from efficientad_ext import Detector
from efficientad_ext.model_file import load_model, write_atomically

# Too few for their rate, just enough, and more than that.
SYNTHETIC_CASES = ((20, 0.01), (76, 0.01), (299, 0.01), (500, 0.02), (1000, 0.05))
RATES = (0.01, 0.05, 0.1)
ALLOWED_DEVIATIONS = 3


@dataclass(frozen=True)
class Distribution:
    """Draws scores, and knows which share of all scores lies above a threshold."""

    draw: Callable[[np.random.Generator, int], np.ndarray]
    share_above: Callable[[float], float]


@dataclass(frozen=True)
class Outcome:
    """How often the rate was within the promise.

    Attributes:
        scores: what was drawn from, and how.
        calibration_images: how many scores a threshold was chosen from.
        asked: the false-reject rate asked for.
        promised: the one promised: a higher one where there are too few scores.
        mean_rate: the mean of the rates.
        within: in how many of 100 resamplings the rate was at most the promised one.
        expected: in how many it should be at least.
        chance: one standard deviation of ``within``.
    """

    scores: str
    calibration_images: int
    asked: float
    promised: float
    mean_rate: float
    within: float
    expected: float
    chance: float

    @property
    def kept(self) -> bool:
        return self.within >= self.expected - ALLOWED_DEVIATIONS * self.chance

    def __str__(self) -> str:
        return (
            f"{self.scores:34} {self.calibration_images:5} {self.asked:7.1%} {self.promised:9.2%} "
            f"{self.mean_rate:8.2%} {self.within:8.2f} {self.expected:9.2f} ± {self.chance:.2f}"
            f"{'' if self.kept else '   TOO FEW'}"
        )


HEADING = (
    f"{'scores':34} {'count':>5} {'asked':>7} {'promised':>9} {'mean':>8} "
    f"{'within':>8} {'expected, of 100':>16}"
)


def of_scipy(frozen: stats.distributions.rv_frozen) -> Distribution:
    return Distribution(
        lambda random, count: frozen.rvs(count, random_state=random).astype(float),
        lambda threshold: float(frozen.sf(threshold)),
    )


def rounded_normal(random: np.random.Generator, count: int) -> np.ndarray:
    return np.round(random.standard_normal(count))


def with_outliers(random: np.random.Generator, count: int) -> np.ndarray:
    return random.standard_normal(count) * np.where(random.random(count) < 0.05, 50.0, 1.0)


SYNTHETIC = {
    "normal": of_scipy(stats.norm()),
    "heavy tails: Cauchy": of_scipy(stats.cauchy()),
    "heavy tails: lognormal": of_scipy(stats.lognorm(2.0)),
    "heavy tails: Pareto, infinite mean": of_scipy(stats.pareto(0.9)),
    "normal, 5 % outliers": Distribution(
        with_outliers, lambda t: float(0.95 * stats.norm.sf(t) + 0.05 * stats.norm.sf(t / 50))
    ),
    "ties: normal, rounded": Distribution(
        rounded_normal, lambda t: float(stats.norm.sf(np.floor(t) + 0.5))
    ),
    "ties: Poisson, mean 0.3": of_scipy(stats.poisson(0.3)),
    "ties: two values, 2 % the higher": of_scipy(stats.bernoulli(0.02)),
    "ties: one value": Distribution(lambda _, count: np.ones(count), lambda t: float(t < 1)),
}


def outcome(
    scores: str, count: int, asked: float, rates: np.ndarray, expected: float = CONFIDENCE
) -> Outcome:
    promised = promised_rate(count, asked)
    return Outcome(
        scores,
        count,
        asked,
        promised,
        float(rates.mean()),
        100 * float((rates <= promised).mean()),
        100 * expected,
        100 * (expected * (1 - expected) / len(rates)) ** 0.5,
    )


def synthetic(random: np.random.Generator, resamplings: int) -> Iterator[Outcome]:
    for name, distribution in SYNTHETIC.items():
        for count, asked in SYNTHETIC_CASES:
            drawn = (distribution.draw(random, count) for _ in range(resamplings))
            rates = [
                distribution.share_above(choose_threshold(one.tolist(), asked)) for one in drawn
            ]
            yield outcome(name, count, asked, np.array(rates))


def resampled(
    random: np.random.Generator, resamplings: int, scores: np.ndarray
) -> Iterator[Outcome]:
    for asked in RATES:
        count = len(scores) // 2
        rates = [
            (scores > choose_threshold(random.choice(scores, count).tolist(), asked)).mean()
            for _ in range(resamplings)
        ]
        yield outcome("real, resampled", count, asked, np.array(rates))


def split(random: np.random.Generator, resamplings: int, scores: np.ndarray) -> Iterator[Outcome]:
    for asked in RATES:
        for count in (len(scores) // 4, len(scores) // 2):
            rates = []
            for _ in range(resamplings):
                calibration, unseen = np.split(random.permutation(scores), [count])
                threshold = choose_threshold(calibration.tolist(), asked)
                rates.append((unseen > threshold).mean())
            unseen_count = len(scores) - count
            most = int(np.floor(promised_rate(count, asked) * unseen_count + 1e-9))
            expected = float(rejects(count, unseen_count, asked).cdf(most))
            yield outcome(
                f"real, split, {unseen_count} unseen", count, asked, np.array(rates), expected
            )


def rejects(count: int, unseen: int, asked: float) -> stats.distributions.rv_frozen:
    """How many of the unseen images lie above the threshold, if all are alike and none tied."""
    from_the_top = count - rank(count, asked) + 1
    return stats.nhypergeom(count + unseen, unseen, from_the_top)


def held_out(validation: np.ndarray, test: np.ndarray) -> Iterator[dict[str, float]]:
    for asked in RATES:
        above = int((test > choose_threshold(validation.tolist(), asked)).sum())
        yield {
            "asked": asked,
            "promised": promised_rate(len(validation), asked),
            "rejected": above,
            "of": len(test),
            "probability": float(rejects(len(validation), len(test), asked).sf(above - 1)),
        }


def scores_of_normal_images(model: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the validation images of the model's run, and of the normal test images."""
    loaded = load_model(model)
    detector = Detector(loaded)
    _, validation = find_normal_images(data, loaded.input_size, loaded.training["seed"])
    test = [image.path for image in find_test_set(data).images if not image.anomalous]
    found = [np.array([float(detector(one).score[0]) for one in p]) for p in (validation, test)]
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--resamplings", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.data is None):
        parser.error("--model and --data belong together")
    random = np.random.default_rng(arguments.seed)

    print(HEADING)
    outcomes: list[Outcome] = []

    def collect(some: Iterator[Outcome]) -> None:
        for one in some:
            print(one, flush=True)
            outcomes.append(one)

    collect(synthetic(random, arguments.resamplings))
    once: list[dict[str, float]] = []
    if arguments.model is not None:
        validation, test = scores_of_normal_images(arguments.model, arguments.data)
        scores = np.concatenate([validation, test])
        print(
            f"{len(validation)} validation images and {len(test)} good test images, "
            f"{len(scores) - len(np.unique(scores))} scores tied"
        )
        collect(resampled(random, arguments.resamplings, scores))
        collect(split(random, arguments.resamplings, scores))
        once = list(held_out(validation, test))
        for one in once:
            print(
                f"validation images to test/good, asked {one['asked']:.0%}, promised "
                f"{one['promised']:.2%}: {one['rejected']} of {one['of']} rejected; as many or "
                f"more if they are alike: {one['probability']:.0%}"
            )
    result = {
        "resamplings": arguments.resamplings,
        "seed": arguments.seed,
        "outcomes": [{**asdict(one), "kept": one.kept} for one in outcomes],
        "held_out": once,
    }
    write_atomically(arguments.json, (json.dumps(result, indent=2) + "\n").encode())
    if broken := [one for one in outcomes if not one.kept]:
        sys.exit(f"{len(broken)} promises are not kept")


if __name__ == "__main__":
    main()
