"""Fused operations, reference implementations and the detector of EfficientAD.

Importing this package needs torch, numpy and the compiled kernels, no GPU and no driver. Training
and the command line are in the package :mod:`efficientad`.
"""

try:
    from efficientad_ext import _C  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the compiled kernels are missing from {__path__[0]}; if that is the source tree, start "
        "Python in another folder (or, from 3.11 on, with -P) to find the installed package"
    ) from error

from efficientad_ext import ops, reference
from efficientad_ext._build import build_config
from efficientad_ext.detector import Detection, Detector

__all__ = ["Detection", "Detector", "build_config", "ops", "reference"]
