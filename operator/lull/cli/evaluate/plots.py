"""How good a model is, as a picture: what it confuses, and whether its probabilities mean what they say."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lull_runtime.quality.evaluate import Evaluation
from lull_runtime.quality.measures import Calibration, Quality

MOST_NAMED = 20
"""Classes above which a matrix is drawn without numbers."""
_DPI = 120


def draw(found: Evaluation, path: Path) -> None:
    """Write the confusion matrix, and beside it the reliability of its probabilities, as PNG."""
    calibration = found.quality.calibration
    panels = 1 if calibration is None else 2
    figure = Figure(figsize=(5.4 * panels, 5.0), layout="constrained", dpi=_DPI)
    revision = f" at {found.revision}" if found.revision else ""
    figure.suptitle(
        f"{found.service}{revision}: {found.accuracy_percent}% of {found.quality.rows} rows are told right"
    )
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _confusion(axes[0], found.quality)
    if calibration is not None:
        _reliability(axes[1], calibration)
    figure.savefig(path, format="png", metadata={"Software": None})


def _confusion(axis: Axes, quality: Quality) -> None:
    counts = np.array(quality.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("told")
    axis.set_ylabel("is")
    axis.set_title("confusion (rows; shade: share of the class)", fontsize=10)
    if len(counts) > MOST_NAMED:
        return
    names = [str(one.number) for one in quality.classes]
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)


def _reliability(axis: Axes, calibration: Calibration) -> None:
    """Draw accuracy over confidence; a bin's dot is as large as it has rows."""
    rows = np.array([one.rows for one in calibration.bins])
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="means what it says")
    axis.scatter(
        [one.confidence for one in calibration.bins],
        [one.accuracy for one in calibration.bins],
        s=20 + 180 * rows / rows.max(),
        color="#4c8dc4",
        alpha=0.8,
        label="answers of like confidence",
    )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(-0.02, 1.05)
    axis.set_xlabel("confidence")
    axis.set_ylabel("accuracy")
    axis.set_title(
        f"calibration error {calibration.expected_error:.3f}, Brier score {calibration.brier:.3f}",
        fontsize=10,
    )
    axis.legend(loc="upper left", frameon=False, fontsize=8)
