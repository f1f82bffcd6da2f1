"""What `lull publish` stands on: processes apart, the gate of optimisations, energy, labelled rows."""

from pathlib import Path

import numpy as np
import pytest

from lull_runtime.artifact.card import Measured
from lull_runtime.publish import optimise, trial
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import name_of
from lull_runtime.publish.kinds import Change
from lull_runtime.publish.labelled import Labelled, agreement, read_labelled, read_labelled_file
from lull_runtime.publish.training import read_training
from lull_runtime.publish.trial import Trial, TrialError, run_apart

CODECARBON = """\
timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,energy_consumed
2026-01-01T00:00:00,net,1,2,10.0,0.0005,0.1,0.001
2026-01-02T00:00:00,net,2,2,12.5,0.0010,0.1,0.0021
"""


def run_python(statement: str) -> str:
    return run_apart("timeit", "-n1", "-r1", statement)


def test_a_process_that_dies_is_an_error_that_names_the_signal():
    with pytest.raises(TrialError, match="SIGABRT"):
        run_python("import os; os.abort()")


def test_a_process_that_fails_says_its_last_line():
    with pytest.raises(TrialError, match="ValueError: no such network"):
        run_python("raise ValueError('no such network')")


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "DEADLINE_SECONDS", 0.2)
    with pytest.raises(TrialError, match="longer than"):
        run_python("import time; time.sleep(600)")


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, np.ndarray | str]:
    """What each network answers to every batch; a text is how its change or its run fails."""
    answers: dict[bytes, np.ndarray | str] = {b"plain": np.eye(4, dtype=np.float32)}

    def changed(network: bytes, kind: Change) -> bytes:
        return network + b"+" + kind.encode()

    def run_trial(network: bytes, served: str, batches) -> Trial:
        found = answers[network]
        if isinstance(found, str):
            raise TrialError(found)
        took = Measured(load_seconds=0, latency_milliseconds=len(network), memory_bytes=0, on="here")
        return Trial(took, [{"output": found} for _ in batches])

    monkeypatch.setattr(optimise, "_changed", changed)
    monkeypatch.setattr(optimise, "run_trial", run_trial)
    return answers


def optimised(*kinds: Change) -> optimise.Optimised:
    rows = np.zeros((4, 1), np.float32)
    judge = optimise.Judge({"input": rows}, Labelled(rows, np.arange(4)).accuracy)
    cases = [({"input": rows[:1]}, {"output": np.eye(4, dtype=np.float32)})]
    return optimise.optimise(b"plain", kinds, cases, judge)


def test_a_change_that_costs_answers_is_not_taken_and_the_next_starts_from_before(changes):
    changes[b"plain+int8"] = np.eye(4, dtype=np.float32)[::-1]
    changes[b"plain+graph"] = np.eye(4, dtype=np.float32) * 0.9
    done = optimised(Change.INT8, Change.GRAPH)
    assert done.network == b"plain+graph"
    assert ["int8 was not taken" in note for note in done.notes] == [True]
    (entry,) = done.taken
    assert entry.max_difference == pytest.approx(0.1)
    assert (entry.latency_milliseconds_before, entry.latency_milliseconds_after) == (5, 11)
    np.testing.assert_array_equal(done.cases[0][1]["output"], changes[b"plain+graph"])


def test_answers_that_are_no_numbers_are_not_taken(changes):
    changes[b"plain+fp16"] = np.full((4, 4), np.nan, np.float32)
    assert optimised(Change.FP16).network == b"plain"


def test_a_change_that_crashes_is_a_note(changes):
    changes[b"plain+fp16"] = "its process died of SIGSEGV"
    done = optimised(Change.FP16)
    assert done.network == b"plain"
    assert done.notes == ["fp16 is not possible for this network: its process died of SIGSEGV"]


@pytest.mark.parametrize(("text", "watt_hours"), [("350Wh", 350), ("1.2kWh", 1200), ("2 MWh", 2e6)])
def test_training_energy_has_a_unit(text: str, watt_hours: float):
    assert read_training(text).watt_hours == pytest.approx(watt_hours)


def test_of_codecarbons_file_the_last_row_counts(tmp_path: Path):
    (tmp_path / "emissions.csv").write_text(CODECARBON)
    cost = read_training(str(tmp_path / "emissions.csv"))
    assert cost.source == "codecarbon"
    figures = (cost.watt_hours, cost.grams_co2e, cost.duration_seconds)
    assert figures == pytest.approx((2.1, 1.0, 12.5))


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "duration,emissions,energy_consumed\n"])
def test_another_csv_is_refused(text: str, tmp_path: Path):
    (tmp_path / "emissions.csv").write_text(text)
    with pytest.raises(NotPublishableError, match="CodeCarbon"):
        read_training(str(tmp_path / "emissions.csv"))


def test_numbers_agree_within_a_twentieth_of_the_largest():
    original = {"output": np.array([[10.0], [5.0]])}
    assert agreement({"output": np.array([[10.4], [5.6]])}, original) == 0.5


@pytest.mark.parametrize(
    ("x", "y"),
    [(np.zeros((3, 2)), np.zeros(2, int)), (np.zeros((3, 2)), np.zeros(3)), (np.zeros((0, 2)), [])],
)
def test_labelled_rows_that_do_not_fit_are_refused(x, y, tmp_path: Path):
    np.savez(tmp_path / "l.npz", x=x, y=y)
    with pytest.raises(NotPublishableError):
        read_labelled(tmp_path / "l.npz")


def test_the_inputs_of_a_labelled_file_go_by_name_and_the_only_one_may_be_x(tmp_path: Path):
    x = np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "l.npz", x=x, ids=np.zeros((3, 1), np.int64), other=np.zeros(5), y=[0, 1, 0])
    file = read_labelled_file(tmp_path / "l.npz")
    assert list(file.inputs(["ids", "x"])) == ["ids", "x"]
    assert file.inputs(["image"])["image"].shape == (3, 2)
    with pytest.raises(NotPublishableError, match="has no mask, only x, ids, other"):
        file.inputs(["ids", "mask"])
    with pytest.raises(NotPublishableError, match="as many rows"):
        file.inputs(["other"])


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "l.npz").write_bytes(b"")
    with pytest.raises(NotPublishableError, match=r"numpy\.savez"):
        read_labelled(tmp_path / "l.npz")


@pytest.mark.parametrize(
    ("text", "name"),
    [("SimpleCNN", "simplecnn"), ("my_net v2", "my-net-v2"), ("__", "model"), ("a" * 80, "a" * 63)],
)
def test_names_are_made_fit(text: str, name: str):
    assert name_of(text) == name
