"""The words of `lull explain`'s options. Nothing heavy is imported: every `lull` command reads them."""

from enum import StrEnum


class Method(StrEnum):
    """How a network is explained."""

    INTEGRATED_GRADIENTS = "integrated-gradients"
    OCCLUSION = "occlusion"


class Methods(StrEnum):
    """What `--method` may name."""

    INTEGRATED_GRADIENTS = "integrated-gradients"
    OCCLUSION = "occlusion"
    ALL = "all"


class Baseline(StrEnum):
    """What an input is compared with."""

    ZEROS = "zeros"
    MEAN = "mean"
    """The mean of the file's rows."""
