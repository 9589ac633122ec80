"""Images as the training sees them, decoded and resized ahead of time in background threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efficientad.augmentation import augment, augment_penalty, centre_crop
from efficientad.datasets import report_skipped
from efficientad.randomness import Purpose, generator, shuffled_index
from efficientad_ext import ops
from efficientad_ext.images import load_image
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN

CACHE_BYTES = 1 << 30
_THREADS = 2
_SAMPLES_AHEAD = 8


def normalize(pixels: Tensor) -> Tensor:
    """The ImageNet normalisation of pixel values in [0, 1]: (..., 3, H, W) to the same shape."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=pixels.dtype).view(3, 1, 1)
    deviation = torch.tensor(IMAGENET_DEVIATION, dtype=pixels.dtype).view(3, 1, 1)
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
    """An :class:`ImageStore` that is too large to be checked before the training.

    An unreadable image is reported once and replaced by the next readable one, which depends on the
    files alone, so that a resumed run sees the same images.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._unreadable: set[int] = set()

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
        raise ValueError("none of the penalty images can be read; give a folder of photos")


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
    step: int, seed: int, images: ImageStore, penalty_images: ReplacingStore | None
) -> Sample:
    """The sample of a training step: a function of the seed, the step and the files."""
    pixels = images[shuffled_index(seed, Purpose.TRAINING_ORDER, len(images), step)]
    augmented = augment(pixels, generator(seed, Purpose.AUGMENTATION, step))
    penalty = None
    if penalty_images is not None:
        index = shuffled_index(seed, Purpose.PENALTY_ORDER, len(penalty_images), step)
        random = generator(seed, Purpose.PENALTY_GRAYSCALE, step)
        penalty = normalize(augment_penalty(penalty_images[index], random))
    return Sample(normalize(pixels), normalize(augmented), penalty)


class SampleLoader:
    """Iterates over the samples of steps ``first`` to ``last`` - 1, made ahead in threads.

    To be used as a context manager, which ends the threads.
    """

    def __init__(
        self,
        first: int,
        last: int,
        seed: int,
        images: ImageStore,
        penalty_images: ReplacingStore | None,
    ) -> None:
        self._steps = iter(range(first, last))
        self._make = lambda step: make_sample(step, seed, images, penalty_images)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="efficientad-loader")
        self._pending: deque[Future[Sample]] = deque()

    def __enter__(self) -> SampleLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        while len(self._pending) < _SAMPLES_AHEAD:
            step = next(self._steps, None)
            if step is None:
                break
            self._pending.append(self._pool.submit(self._make, step))
        if not self._pending:
            raise StopIteration
        return self._pending.popleft().result()
