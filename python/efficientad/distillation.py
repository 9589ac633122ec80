"""Distillation of a teacher from a network pretrained on ImageNet (appendix of the paper)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from efficientad.arguments import check_device, check_list, config_or_default
from efficientad.backbones import Backbone
from efficientad.checkpoint import check_output, check_settings, checkpoint_path
from efficientad.distillation_images import find_distillation_images
from efficientad.distillation_run import DistillationConfig, DistillationRun
from efficientad.initial_teacher import load_initial_teacher
from efficientad.teacher import save_teacher, teacher_record
from efficientad.torch_modes import default_modes
from efficientad.workers import joined_workers
from efficientad_ext._checks import check_type
from efficientad_ext.inference import exact_float32

__all__ = ["DistillationConfig", "distill"]

logger = logging.getLogger(__name__)

_CURVE = "held-out loss"


@default_modes()
def distill(
    images: Sequence[Path | str],
    output: Path | str,
    backbone: Backbone,
    config: DistillationConfig | None = None,
    *,
    initial_teacher: Path | str | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
) -> float | None:
    """Distils a teacher from a backbone and writes it to a file that ``load_teacher`` reads.

    A padded PDN learns, by the mean squared error on 256x256 crops, the backbone's descriptors of
    the same crops at 512x512 (see ``Descriptors``), normalised per channel with the mean and the
    deviation over up to 10,000 crops. A tenth of the photos, 200 at most, are held out.

    The state of the run is kept in ``<output>.checkpoint``, as by ``train``; a run that was stopped
    or killed and resumed gives the same file, and resuming a finished one changes nothing. Under
    ``torchrun`` the workers share every batch, and the result is that of a single process but for
    rounding; on several machines, the output's folder must be one that all of them see.

    Args:
        images: folders of generic photos, each of 128x128 pixels or more. Others, and unreadable
            ones, are reported, replaced and counted.
        output: the teacher file to write.
        backbone: from ``load_backbone``.
        config: see ``DistillationConfig``.
        initial_teacher: a teacher file to start from instead of random weights, see
            ``load_initial_teacher``. The rate begins where it had declined to there, or at half.
        device: where to compute; under ``torchrun``, "cuda" means each worker's own GPU.
        resume: continue from the checkpoint, if there is one.

    Returns:
        The loss on the held-out photos; None in workers that ``torchrun`` started but the first.

    Raises:
        FileNotFoundError: if a folder or the initial teacher does not exist.
        FileExistsError: if there is a checkpoint, but ``resume`` is not asked for.
        TypeError: for an argument of another type.
        ValueError: for unusable photos, a device that is not here, a batch that the workers cannot
            share evenly, an initial teacher that does not fit, or a checkpoint from other settings.
        RuntimeError: if the training diverges.
    """
    output, device = Path(output), check_device(device)
    config = config_or_default("config", config, DistillationConfig)
    check_list("images", images, "folders")
    check_type("backbone", backbone, nn.Module, "a network, which load_backbone loads by its name")
    check_output(output, resume)
    photos = find_distillation_images([Path(folder) for folder in images], config.seed)
    initial = None
    if initial_teacher is not None:
        check_type("initial_teacher", initial_teacher, str | os.PathLike, "a teacher file")
        initial = load_initial_teacher(Path(initial_teacher), config.size)
        initial.check_held_out(config.seed, photos.record)
    with joined_workers(device) as workers, exact_float32(workers.device):
        if config.batch_size % workers.count:
            raise ValueError(
                f"{workers.count} workers cannot share a batch of {config.batch_size} evenly; "
                "give a multiple with --batch-size"
            )
        run = DistillationRun(config, photos, backbone, workers, checkpoint_path(output), initial)
        what_to_do = {**run.settings, "steps": config.steps}
        if resume and output.exists() and not run.checkpoint.exists():
            made = teacher_record(output)
            check_settings(output, {name: made.get(name) for name in what_to_do}, what_to_do)
            logger.info("%s is finished: there is nothing to resume", output)
            return float(made[_CURVE][-1][1]) if workers.leads else None
        loss = run.to_the_end()
        if not workers.leads:
            return None
    record = {**what_to_do, _CURVE: run.curve}
    save_teacher(output, run.network.state_dict(), record, config.half)
    run.checkpoint.unlink(missing_ok=True)
    if photos.skipped:
        logger.warning("%d photos could not be used and were replaced; see above", photos.skipped)
    return loss
