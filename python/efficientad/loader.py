"""Images as the training sees them, decoded and resized ahead of time in background threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from efficientad.augmentation import augment, augment_penalty, centre_crop
from efficientad.datasets import report_skipped
from efficientad.randomness import Purpose, generator, shuffled_index
from efficientad_ext import ops
from efficientad_ext.images import load_image
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN

Made = TypeVar("Made")

PenaltySource: TypeAlias = Callable[[int], Tensor]
"""Gives the image P of a training step, not augmented yet: (3, H, W) pixel values in [0, 1]."""

CACHE_BYTES = 1 << 30
_THREADS = 2
_SAMPLES_AHEAD = 8


def normalize(pixels: Tensor) -> Tensor:
    """The ImageNet normalisation of pixel values in [0, 1]: (..., 3, H, W) to the same shape."""
    mean = pixels.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    deviation = pixels.new_tensor(IMAGENET_DEVIATION).view(3, 1, 1)
    return (pixels - mean) / deviation


def load_pixels(path: Path, size: tuple[int, int]) -> Tensor:
    """An image file as (3, *size) float32 pixel values in [0, 1], resized as in detection.

    Raises:
        ValueError, TypeError, OSError: if the file cannot be read as an image.
    """
    image = torch.from_numpy(load_image(path))
    return ops.resize_normalize(image, size, mean=(0, 0, 0), deviation=(1, 1, 1))[0]


def load_penalty_pixels(path: Path, size: tuple[int, int]) -> Tensor:
    """The centre of an image resized to twice ``size``, as (3, *size) pixel values in [0, 1]."""
    return centre_crop(load_pixels(path, (2 * size[0], 2 * size[1])), size)


class ImageStore:
    """Prepared images by index; the first ones loaded stay in memory, up to a budget.

    Nothing is evicted: with a random order over all images, what stays is as good as what would
    replace it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        load: Callable[[Path, tuple[int, int]], Tensor] = load_pixels,
        budget: int = CACHE_BYTES,
    ) -> None:
        self.paths = tuple(paths)
        self._size = size
        self._load = load
        self._free_bytes = budget
        self._cache: dict[Path, Tensor] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self.paths[index]
        pixels = self._cache.get(path)
        if pixels is None:
            pixels = self._load(path, self._size)
            if pixels.nbytes <= self._free_bytes:
                self._free_bytes -= pixels.nbytes
                self._cache[path] = pixels.contiguous()
        return pixels

    def keep(self, paths: Sequence[Path]) -> None:
        """Reduces the store to some of its images, in the order given."""
        self.paths = tuple(paths)
        for path in self._cache.keys() - set(paths):
            self._free_bytes += self._cache.pop(path).nbytes


class ReplacingStore:
    """An :class:`ImageStore` that is too large to be checked before the run.

    An unreadable image is reported once and replaced by the next readable one, which depends on the
    files alone, so that a resumed run sees the same images.
    """

    def __init__(self, store: ImageStore, kind: str) -> None:
        """``kind`` is what to call the images in an error, such as "penalty"."""
        self._store = store
        self._kind = kind
        self._unreadable: set[int] = set()

    @property
    def skipped(self) -> int:
        """How many images have been found unreadable so far."""
        return len(self._unreadable)

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> Tensor:
        for step in range(len(self._store)):
            candidate = (index + step) % len(self._store)
            if candidate in self._unreadable:
                continue
            try:
                return self._store[candidate]
            except (ValueError, TypeError, OSError) as error:
                self._unreadable.add(candidate)
                report_skipped(self._store.paths[candidate], error)
        raise ValueError(f"none of the {self._kind} images can be used; give a folder of photos")


def drop_unreadable(store: ImageStore) -> None:
    """Loads every image of the store once; reports and drops those that cannot be read."""
    readable = []
    for index, path in enumerate(store.paths):
        try:
            store[index]
        except (ValueError, TypeError, OSError) as error:
            report_skipped(path, error)
        else:
            readable.append(path)
    store.keep(readable)


@dataclass(frozen=True)
class Sample:
    """The images of one training step, each (3, H, W), normalised.

    ``image`` is I of the paper, ``augmented`` I', ``penalty`` P, or None in a run without.
    """

    image: Tensor
    augmented: Tensor
    penalty: Tensor | None


def make_sample(
    step: int, seed: int, images: ImageStore, penalty_image: PenaltySource | None
) -> Sample:
    """The sample of a training step: a function of the seed, the step and the files."""
    pixels = images[shuffled_index(seed, Purpose.TRAINING_ORDER, len(images), step)]
    augmented = augment(pixels, generator(seed, Purpose.AUGMENTATION, step))
    penalty = None
    if penalty_image is not None:
        random = generator(seed, Purpose.PENALTY_GRAYSCALE, step)
        penalty = normalize(augment_penalty(penalty_image(step), random))
    return Sample(normalize(pixels), normalize(augmented), penalty)


class SampleLoader(Generic[Made]):
    """Iterates over what ``make`` gives for each number, made ahead in threads, in order.

    To be used as a context manager, which ends the threads.

    Args:
        numbers: such as the steps of a run.
        make: called in a thread of its own.
        threads: how many of them.
        ahead: how many results are made or being made while one is in use.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        make: Callable[[int], Made],
        threads: int = _THREADS,
        ahead: int = _SAMPLES_AHEAD,
    ) -> None:
        self._numbers = iter(numbers)
        self._make = make
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="efficientad-loader")
        self._pending: deque[Future[Made]] = deque()

    def __enter__(self) -> SampleLoader[Made]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        while len(self._pending) < self._ahead:
            number = next(self._numbers, None)
            if number is None:
                break
            self._pending.append(self._pool.submit(self._make, number))
        if not self._pending:
            raise StopIteration
        return self._pending.popleft().result()
