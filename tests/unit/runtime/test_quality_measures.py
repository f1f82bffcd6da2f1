"""Measures of answers: equal to scikit-learn's on anything, and defined where its inputs end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from lull_runtime.quality.measures import (
    BINS,
    MOST_CLASSES,
    NO_CLASS,
    brier,
    classes_of,
    percentile,
    probabilities_of,
    quality,
)

SEEDS = st.integers(0, 2**32 - 1)


def scored(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of some classes, not all of which need be told, and what is true."""
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.full(classes, random.uniform(0.05, 5)), rows)
    return scores, random.integers(0, classes, rows)


@given(SEEDS, st.integers(1, 60), st.integers(2, 8))
def test_precision_recall_f1_accuracy_and_confusion_are_scikit_learns(seed, rows, classes):
    scores, truth = scored(seed, rows, classes)
    told = scores.argmax(axis=1)
    found = quality(scores, truth)
    labels = [one.number for one in found.classes]
    each = metrics.precision_recall_fscore_support(truth, told, labels=labels, zero_division=0)
    for one, precision, recall, f1, support in zip(found.classes, *each, strict=True):
        assert (one.precision, one.recall, one.f1) == pytest.approx((precision, recall, f1))
        assert one.rows == support
    whole = metrics.precision_recall_fscore_support(truth, told, average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(whole[:3])
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, told))
    assert found.correct == (truth == told).sum()
    assert found.confusion == metrics.confusion_matrix(truth, told, labels=labels).tolist()


@given(SEEDS, st.integers(1, 60), st.integers(2, 8))
def test_the_brier_score_is_scikit_learns(seed, rows, classes):
    scores, truth = scored(seed, rows, classes)
    want = metrics.brier_score_loss(truth, scores, labels=range(classes), scale_by_half=False)
    assert brier(scores, truth) == pytest.approx(want)


@given(SEEDS, st.integers(1, 200), st.integers(2, 5))
def test_the_calibration_error_is_that_of_its_definition(seed, rows, classes):
    scores, truth = scored(seed, rows, classes)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    want = 0.0
    for low in range(BINS):
        inside = (confidence > low / BINS) & (confidence <= (low + 1) / BINS)
        if inside.any():
            want += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    found = quality(scores, truth).calibration
    assert found.expected_error == pytest.approx(want)
    assert sum(one.rows for one in found.bins) == rows


def test_a_confidence_on_the_edge_of_two_bins_is_of_the_lower_one():
    found = quality(np.array([[0.6, 0.4], [0.57, 0.43], [1.0, 0.0]]), np.array([0, 1, 0])).calibration
    assert [(one.rows, one.accuracy) for one in found.bins] == [(2, 0.5), (1, 1.0)]


@given(SEEDS, st.integers(1, 40), st.integers(2, 6))
def test_logits_are_told_from_probabilities(seed, rows, classes):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 30, (rows, classes))
    logits[:, 0] -= 0.5  # so that none of them is a probability by chance
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    want = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(logits), want, atol=1e-12)
    np.testing.assert_allclose(probabilities_of(want), want)
    np.testing.assert_array_equal(classes_of(logits), logits.argmax(axis=1))


def test_one_number_is_a_probability_above_a_half_or_a_logit_above_zero():
    np.testing.assert_array_equal(classes_of(np.array([[0.2], [0.5], [0.7]])), [0, 0, 1])
    np.testing.assert_array_equal(classes_of(np.array([[-3.0], [0.2], [900.0]])), [0, 1, 1])
    np.testing.assert_allclose(probabilities_of(np.array([[0.2]])), [[0.8, 0.2]])
    np.testing.assert_allclose(probabilities_of(np.array([[-900.0], [900.0]])), [[1, 0], [0, 1]])


def test_of_equal_scores_the_first_class_is_told():
    tied = np.array([[0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.4, 0.1]])
    np.testing.assert_array_equal(classes_of(tied), [0, 1])


def test_labels_are_taken_as_they_are_and_tell_no_probabilities():
    found = quality(np.array([[7], [-1], [7]]), np.array([7, -1, -1]))
    assert [one.number for one in found.classes] == [-1, 7]
    assert (found.correct, found.calibration, found.not_numbers) == (2, None, 0)
    assert quality(np.array([True, False]), np.array([1, 1])).correct == 1


def test_a_class_never_told_has_precision_zero_and_one_class_alone_is_fine():
    never = quality(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    assert (never.classes[1].precision, never.classes[1].recall, never.classes[1].f1) == (0, 0, 0)
    alone = quality(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert (alone.accuracy, alone.f1, alone.confusion) == (1, 1, [[2]])
    assert alone.calibration.expected_error == pytest.approx(0.15)


def test_what_is_not_a_number_is_wrong_and_of_no_class():
    scores = np.array([[0.9, 0.1], [np.nan, 0.1], [0.2, np.inf]])
    found = quality(scores, np.array([0, 0, 1]))
    assert (found.correct, found.not_numbers, found.confusion) == (1, 2, [[1, 0], [0, 0]])
    assert found.classes[0].recall == 0.5
    assert found.calibration.brier == pytest.approx((2 * 0.1**2 + 1 + 1) / 3)
    np.testing.assert_array_equal(classes_of(scores), [0, NO_CLASS, NO_CLASS])
    assert quality(np.full((2, 3), np.nan), np.array([0, 1])).correct == 0


def test_a_true_class_that_the_network_does_not_know_is_always_wrong():
    found = quality(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 5]))
    assert (found.accuracy, [one.number for one in found.classes]) == (0.5, [0, 5])
    assert found.calibration.brier == pytest.approx(1.0)


def test_numbers_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match=f"more than {MOST_CLASSES}"):
        quality(np.arange(MOST_CLASSES + 1)[:, None], np.zeros(MOST_CLASSES + 1, np.int64))
    with pytest.raises(ValueError, match="0 answers to 0 rows"):
        quality(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="2 answers to 3 rows"):
        quality(np.zeros((2, 2)), np.zeros(3, np.int64))


def test_a_percentile_lies_between_its_neighbours():
    assert percentile(np.array([1.0, 2.0, 3.0, 4.0]), 50) == 2.5
    assert percentile(np.array([7.0]), 99) == 7.0
