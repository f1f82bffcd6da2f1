"""How a host's draw is split: nothing is lost, nothing is invented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull_runtime.measure.attribution import Use, attribute
from lull_runtime.measure.power import Draw, PowerProfile, measured, modelled

GIB = 2**30
H100 = PowerProfile(idle=72, context=50, max=700, node=100)
WATT = 10**6

watts = st.floats(0, 1000)
profiles = st.builds(PowerProfile, watts, watts, watts, watts)
uses = st.dictionaries(
    st.text(max_size=3), st.builds(Use, st.integers(0, 200 * GIB), st.integers(0, 10**12)), max_size=20
)
draws = st.one_of(
    st.builds(measured, st.integers(0, 10**12), profiles, st.floats(0, 1e5)),
    st.builds(modelled, st.floats(0, 9), profiles, st.floats(0, 1e5), context=st.booleans()),
)


@given(draws, uses, st.integers(0, 200 * GIB))
def test_the_parts_and_what_is_unallocated_are_exactly_the_hosts(draw, models, capacity_bytes):
    split = attribute(draw, models, capacity_bytes)
    parts = [value for part in split.parts.values() for value in (part.idle, part.dynamic)]
    assert sum(parts) + split.unallocated == draw.total
    assert min([*parts, split.unallocated]) >= 0


@given(st.integers(0, 10**12), profiles, st.floats(0, 1e5))
def test_what_the_sensor_says_is_what_is_split(device, profile, seconds):
    draw = measured(device, profile, seconds)
    assert draw.bare + draw.context + draw.dynamic == device
    assert min(draw.bare, draw.context, draw.dynamic) >= 0


def test_each_model_pays_for_its_memory_its_context_and_its_computing():
    models = {"a": Use(20 * GIB, busy=3), "b": Use(20 * GIB, busy=1)}
    split = attribute(Draw(72 * WATT, 8 * WATT, 50 * WATT, 200 * WATT), models, 80 * GIB)
    assert split.parts["a"].idle == split.parts["b"].idle == (20 + 25) * WATT
    assert split.parts["a"].dynamic == 150 * WATT
    assert split.unallocated == 40 * WATT  # of the memory that is free


def test_a_host_without_models_is_unallocated_with_all_it_draws():
    assert attribute(measured(122 * WATT, H100, 1.0), {}, 80 * GIB).unallocated == 222 * WATT


def test_a_sensor_below_the_profile_is_believed():
    draw = measured(61 * WATT, H100, 1.0)
    assert (draw.bare, draw.context, draw.dynamic) == (36 * WATT, 25 * WATT, 0)


def test_the_model_of_the_draw_spans_from_idle_to_full_load():
    assert modelled(0.0, H100, 1.0, context=False).total == 172 * WATT
    assert modelled(0.0, H100, 1.0, context=True).total == 222 * WATT
    assert modelled(0.5, H100, 1.0, context=True).total == (222 + 289) * WATT
    assert modelled(3.0, H100, 1.0, context=True).total == 800 * WATT


def test_a_profile_says_what_it_knows():
    assert PowerProfile.parse("") == PowerProfile(max=None)
    assert PowerProfile.parse('{"idle": 72, "context": 50, "max": 700, "node": 100}') == H100
    with pytest.raises(ValueError, match="Expecting"):
        PowerProfile.parse("idle=72")
    for wrong in ("[1]", '{"idle": "72"}', '{"max": null}', '{"node": -1}', '{"idle": true}'):
        with pytest.raises(ValueError, match="watts"):
            PowerProfile.parse(wrong)
