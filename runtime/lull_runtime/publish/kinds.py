"""The words of `lull publish`'s options. Nothing heavy is imported: every `lull` command reads them."""

from enum import StrEnum


class Kind(StrEnum):
    """What a file holds."""

    PT2 = "pt2"
    TORCHSCRIPT = "torchscript"
    KERAS = "keras"
    ONNX = "onnx"
    SKLEARN = "sklearn"


class Change(StrEnum):
    """What can be done to a network to make it smaller or faster."""

    FP16 = "fp16"
    INT8 = "int8"
    GRAPH = "graph"


class Sample(StrEnum):
    """Networks to try Lull with."""

    DIGITS = "digits"
    """A convolutional network in PyTorch that tells handwritten digits."""
    DIGIT_ROWS = "digit-rows"
    """An LSTM in Keras that reads the digits row by row; a `.keras` file."""
    TUMOURS = "tumours"
    """A dense network in Keras that tells benign tumours from malign; an `.h5` file."""
