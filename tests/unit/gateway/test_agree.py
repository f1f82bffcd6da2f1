"""Two answers agree where a client would draw the same conclusion, and differ where it would not."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.utils import np_to_triton_dtype

from lull.gateway.agree import agree
from lull.gateway.tensors import Tensor

FLOATS = (np.float16, np.float32, np.float64)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, max_side=5)


def tensors(dtypes=(np.bool_, np.int8, np.int64, np.uint16, *FLOATS)):
    return st.sampled_from(dtypes).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)).map(tensor)


def tensor(values, dtype=None):
    values = np.asarray(values, dtype)
    return Tensor(np_to_triton_dtype(values.dtype), values)


def same(ours, theirs, dtype=np.float32):
    return agree({"output": tensor(ours, dtype)}, {"output": tensor(theirs, dtype)})


@given(st.dictionaries(st.text(max_size=3), tensors(), max_size=3))
def test_an_answer_agrees_with_itself(answer):
    assert agree(answer, answer)


@given(tensors(), tensors())
def test_other_datatypes_or_shapes_differ(one, two):
    assume(one.datatype != two.datatype or one.values.shape != two.values.shape)
    assert not agree({"output": one}, {"output": two})


def test_other_or_missing_outputs_differ():
    one = tensor([1.0])
    assert not agree({"a": one}, {"b": one})
    assert not agree({"a": one}, {})
    assert not agree({"a": one}, {"a": one, "b": one})
    assert not agree({"a": one, "b": one}, {"a": one, "b": tensor([2.0])}), "one of two is enough"


@given(arrays.arrays(np.int32, SHAPES.filter(len), elements=st.integers(-5, 5)), st.data())
def test_integers_agree_only_if_equal(values, data):
    assume(values.size)
    index = data.draw(st.integers(0, values.size - 1))
    other = values.copy()
    other.flat[index] += 1
    assert not same(values, other, np.int32)


def test_booleans_and_strings_agree_only_if_equal():
    assert not same([True], [False], np.bool_)
    assert same([b"cat"], [b"cat"], np.object_)
    assert not same([b"cat"], [b"dog"], np.object_)


@given(arrays.arrays(np.float64, SHAPES, elements=st.floats(-1e6, 1e6)), st.floats(-0.9e-2, 0.9e-2))
def test_floats_within_the_tolerance_agree(values, error):
    assert same(values, values * (1 + error), np.float64)


@given(st.floats(0.1, 1e6), st.sampled_from([0.5, 0.9, 1.1, 2.0, -1.0]))
def test_a_single_float_beyond_it_differs(value, factor):
    assert not same([[value]], [[value * factor]], np.float64)
    assert not same([value], [value * factor], np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_no_number_agrees_with_itself_alone(dtype):
    assert same([np.nan, np.inf, 1], [np.nan, np.inf, 1], dtype)
    for one, two in (([np.nan], [0]), ([0], [np.nan]), ([np.inf], [-np.inf]), ([np.inf], [1])):
        assert not same(one, two, dtype)
    assert not same([[1, 5, 2]], [[1, np.nan, 2]], dtype), "no class is ahead by being no number"
    assert not same([[1, np.inf, 2]], [[1, 5, 2]], dtype)


def test_less_precise_datatypes_have_more_room():
    assert same([0.0], [0.005], np.float16)
    assert not same([0.0], [0.005], np.float32)
    brain = [Tensor("BF16", np.array([[value]], np.float32)) for value in (1.0, 1.05, 1.5)]
    assert agree({"output": brain[0]}, {"output": brain[1]})
    assert not agree({"output": brain[0]}, {"output": brain[2]})


@given(arrays.arrays(np.float64, (4, 3), elements=st.floats(0.01, 1)), st.integers(0, 2))
def test_probabilities_agree_if_the_same_class_is_ahead(scores, winner):
    ours, theirs = scores.copy(), scores[::-1].copy()
    ours[:, winner] += 2
    theirs[:, winner] += 1
    ours, theirs = (rows / rows.sum(axis=1, keepdims=True) for rows in (ours, theirs))
    assert same(ours, theirs, np.float64)
    assert same(ours[0], theirs[0], np.float64), "also of one example without a batch axis"
    assert not same(ours, np.roll(theirs, 1, axis=1), np.float64)
    other = theirs.copy()
    other[2] = np.roll(other[2], 1)
    assert not same(ours, other, np.float64), "one row of the batch is enough"


def test_logits_agree_if_the_same_class_is_ahead():
    assert same([[4, -1, 0.5], [0, 3, 1]], [[6, -3, 2], [-1, 2, 1]])
    assert not same([[4, -1, 0.5]], [[1, 2, 0.5]])


def test_a_row_may_be_close_where_its_first_two_classes_are_as_good_as_equal():
    assert same([[2.000, 2.001, 0], [4, 0, 1]], [[2.001, 2.000, 0], [3, 0, 1]])


def test_scores_in_another_unit_differ_whatever_is_ahead():
    assert not same([[4.0, 1, 2]], [[4000.0, 1000, 2000]])
    assert not same([[4.0, 1, 2]], [[0.0, 0, 0]])


def test_what_is_no_table_of_scores_has_to_be_close():
    boxes = [[[10.0, 20, 30, 40]]]
    assert not same(boxes, [[[1.0, 2, 3, 39]]])
    assert not same([10.0, 20, 30, 40], [1.0, 2, 3, 39])
    assert not same([[5.0]], [[7.0]]), "one value a row is a figure"
