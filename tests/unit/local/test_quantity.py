"""Quantities."""

from decimal import Decimal

import pytest

from lull.local.node.quantity import in_units, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("500m", Decimal("0.5")),
        ("2Gi", 2 * 2**30),
        ("1k", 1000),
        ("1e3", 1000),
        ("1.5Ki", 1536),
        ("1E", 10**18),
    ],
)
def test_a_quantity_is_a_number(text, value):
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "x", "1Q", "1 Gi", "i"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantity"):
        parse(text)


def test_units_are_rounded_up_and_a_missing_divisor_is_one():
    assert in_units("1500m", "0") == 2
    assert in_units("1500m", "1m") == 1500
    assert in_units("1Gi", "1Mi") == 1024
