"""The pure step: what a host does next, and that it always comes to rest where it should."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lull_runtime.agent.reconcile import Action, Local, Phase, step


def test_a_new_placement_is_fetched_even_while_triton_is_down():
    assert step({"a-1": "a"}, {}, None, {}) == [Action("fetch", "a-1")]


def test_one_load_at_a_time():
    local = {"a-1": Local("a", Phase.WAITING, False), "b-1": Local("b", Phase.WAITING, False)}
    assert step({"a-1": "a", "b-1": "b"}, local, {}, {}) == [Action("load", "a-1")]
    local["a-1"] = Local("a", Phase.LOADING, True)
    assert step({"a-1": "a", "b-1": "b"}, local, {}, {}) == []


def test_models_are_loaded_in_the_order_of_the_spec_whoever_was_fetched_first():
    local = {"a-1": Local("a", Phase.WAITING, False), "b-1": Local("b", Phase.WAITING, False)}
    assert step({"b-1": "b", "a-1": "a"}, local, {}, {}) == [Action("load", "b-1")]


def test_nothing_is_loaded_while_triton_is_down():
    assert step({"a-1": "a"}, {"a-1": Local("a", Phase.WAITING, False)}, None, {}) == []


def test_a_name_that_triton_still_holds_is_not_loaded_again():
    local = {"a-1": Local("a", Phase.UNLOADING, True), "a-2": Local("a", Phase.WAITING, False)}
    assert step({"a-2": "a"}, local, {"a": "READY"}, {}) == []
    assert step({"a-2": "a"}, {"a-2": local["a-2"]}, {"a": "UNLOADING"}, {}) == []


def test_what_was_loaded_for_this_placement_is_adopted_and_for_another_one_evicted():
    assert step({"a-1": "a"}, {}, {"a": "READY"}, {"a": "a-1"}) == [Action("adopt", "a-1")]
    assert step({"a-2": "a"}, {}, {"a": "READY"}, {"a": "a-1"}) == [
        Action("fetch", "a-2"),
        Action("evict", "a"),
    ]


def test_a_load_that_timed_out_is_unloaded_only_when_it_is_no_longer_wanted():
    stuck = {"a-1": Local("a", Phase.FAILED, True)}
    assert step({"a-1": "a"}, stuck, {"a": "LOADING"}, {}) == []
    assert step({}, stuck, {"a": "LOADING"}, {}) == [Action("unload", "a-1")]


def test_a_model_that_is_loaded_ahead_waits_for_those_that_somebody_waits_for():
    desired, ahead = {"a-1": "a", "b-1": "b"}, {"a-1"}
    assert step(desired, {}, {}, {}, ahead) == [Action("fetch", "b-1")]
    local = {"a-1": Local("a", Phase.WAITING, False), "b-1": Local("b", Phase.FETCHING, False)}
    assert step(desired, local, {}, {}, ahead) == []
    local["b-1"] = Local("b", Phase.WAITING, False)
    assert step(desired, local, {}, {}, ahead) == [Action("load", "b-1")]
    local["b-1"] = Local("b", Phase.READY, True)
    assert step(desired, local, {"b": "READY"}, {"b": "b-1"}, ahead) == [Action("load", "a-1")]
    assert step(desired, {"b-1": local["b-1"]}, {"b": "READY"}, {"b": "b-1"}, ahead) == [
        Action("fetch", "a-1")
    ]


def test_models_that_are_loaded_ahead_are_fetched_one_by_one_so_that_a_wake_finds_a_slot():
    desired = {f"{name}-1": name for name in "abcd"}
    ahead, local = set(desired), {}
    assert step(desired, local, {}, {}, ahead) == [Action("fetch", "a-1")]
    local["a-1"] = Local("a", Phase.FETCHING, False)
    assert step(desired, local, {}, {}, ahead) == []
    local["a-1"] = Local("a", Phase.WAITING, False)
    assert step(desired, local, {}, {}, ahead) == [Action("fetch", "b-1"), Action("load", "a-1")]
    local["b-1"] = Local("b", Phase.FETCHING, False)
    assert step(desired, local, {}, {}, ahead - {"d-1"}) == [Action("fetch", "d-1")]


def test_a_failure_holds_up_nothing_that_is_loaded_ahead():
    local = {"a-1": Local("a", Phase.WAITING, False), "b-1": Local("b", Phase.FAILED, False)}
    assert step({"a-1": "a", "b-1": "b"}, local, {}, {}, {"a-1"}) == [Action("load", "a-1")]


placements = st.sets(st.sampled_from(["a-1", "a-2", "b-1", "b-2", "c-1"]))


class Simulated:
    """Triton and the executor, one completed action at a time."""

    def __init__(self) -> None:
        self.local: dict[str, Local] = {}
        self.triton: dict[str, str] = {}
        self.loaded_for: dict[str, str] = {}
        self.loads = 0

    def act(self, action: Action, desired: dict[str, str]) -> None:
        key = action.target
        match action.verb:
            case "fetch":
                self.local[key] = Local(desired[key], Phase.WAITING, False)
            case "adopt":
                self.local[key] = Local(desired[key], Phase.READY, True)
            case "load":
                known = self.local[key]
                assert not self.triton.get(known.name), "loaded over a model that is there"
                self.loads += 1
                self.triton[known.name] = "READY"
                self.loaded_for[known.name] = key
                self.local[key] = replace(known, phase=Phase.READY, held=True)
            case "unload":
                known = self.local.pop(key)
                self.triton[known.name] = ""
                self.loaded_for.pop(known.name, None)
            case "forget":
                assert not self.local.pop(key).held
            case "evict":
                self.triton[key] = ""
                self.loaded_for.pop(key, None)


@given(st.lists(st.tuples(placements, placements, st.sampled_from(["", "triton", "agent"])), max_size=6))
def test_any_history_comes_to_rest_with_exactly_what_is_wanted(history):
    host = Simulated()
    for wanted, ahead, accident in history:
        by_name = {key[0]: key for key in sorted(wanted)}  # names are unique on a host
        desired = {key: name for name, key in by_name.items()}
        if accident == "triton":
            host.triton.clear()
            host.local = {k: replace(v, phase=Phase.WAITING, held=False) for k, v in host.local.items()}
        if accident == "agent":
            host.local.clear()
        for _ in range(40):
            actions = step(desired, host.local, host.triton, host.loaded_for, ahead)
            if not actions:
                break
            host.act(actions[0], desired)
        assert step(desired, host.local, host.triton, host.loaded_for, ahead) == []
        assert {k: v.name for k, v in host.local.items()} == desired
        assert all(v.phase is Phase.READY for v in host.local.values())
        assert {n for n, state in host.triton.items() if state} == set(desired.values())
