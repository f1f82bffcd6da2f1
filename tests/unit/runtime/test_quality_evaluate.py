"""Evaluating through a gateway: each row is asked once, by one revision, and failures are no answers."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.labelled import LabelledFile
from lull_runtime.quality import asking
from lull_runtime.quality.asking import IN_A_ROW, MOST_SCORES, Endpoint
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.evaluate import Asked, Evaluation, Watch, evaluate, spread, the_revision
from lull_runtime.quality.measures import quality
from unit.runtime.classifier import MODEL, Gateway, running

ROWS = 50
_WEIGHTS = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)


def scores(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32) @ _WEIGHTS


def labelled(**arrays: np.ndarray) -> LabelledFile:
    random = np.random.default_rng(2)
    rows = random.normal(size=(ROWS, 2)).astype(np.float32)
    return LabelledFile(Path("set.npz"), arrays or {"x": rows}, random.integers(0, 3, ROWS))


async def evaluated(
    gateway: Gateway, data: LabelledFile | None = None, revision: str | None = None, **how: object
) -> Evaluation:
    timeout_seconds = float(how.pop("timeout_seconds", 30.0))
    async with running(gateway) as url:
        endpoint = Endpoint(url, MODEL, revision, timeout_seconds)
        asked = replace(Asked(batch=7), **how)
        watch = Watch(lambda doing: None, lambda rows, total: None)
        return await evaluate("demo/digits", endpoint, data or labelled(), asked, watch)


async def test_every_row_is_asked_once_and_judged_by_its_own_answer():
    gateway, data = Gateway(scores), labelled()
    found = await evaluated(gateway, data)
    rows = data.arrays["x"]
    assert found.quality == quality(scores(rows), data.classes)
    sent = np.concatenate([asked.inputs["input"] for asked in gateway.asked])
    assert sorted(map(tuple, sent.tolist())) == sorted(map(tuple, rows.tolist()))
    assert (found.revision, found.output, found.failures) == ("r1", "scores", {})
    assert found.latency.requests == -(-ROWS // 7)
    assert 0 < found.latency.p50_seconds <= found.latency.p95_seconds <= found.latency.p99_seconds


async def test_as_many_requests_are_in_flight_as_asked_for_and_no_more():
    now, most, full = 0, 0, asyncio.Event()

    class Counted(Gateway):
        async def infer(self, request):
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == 3:
                await asyncio.sleep(0.05)  # in which a fourth would come
                full.set()
            await full.wait()
            answer = await super().infer(request)
            now -= 1
            return answer

    assert (await evaluated(Counted(scores), batch=1, concurrency=3)).failures == {}
    assert most == 3


async def test_progress_tells_all_rows():
    told = []
    async with running(Gateway(scores)) as url:
        watch = Watch(lambda doing: None, lambda rows, total: told.append((rows, total)))
        await evaluate("demo/digits", Endpoint(url, MODEL), labelled(), Asked(batch=7), watch)
    assert sum(rows for rows, _ in told) == ROWS
    assert {total for _, total in told} == {ROWS}


async def test_inputs_go_by_their_names_and_in_their_own_types():
    ids = np.arange(ROWS, dtype=np.int32)[:, None]
    gateway = Gateway(
        lambda rows: np.eye(3, dtype=np.float32)[rows[:, 0] % 3], inputs=[("ids", "INT64"), ("x", "FP32")]
    )
    await evaluated(gateway, labelled(ids=ids, x=np.zeros((ROWS, 2), np.float32)))
    assert {name: array.dtype for name, array in gateway.asked[0].inputs.items()} == {
        "ids": np.int64,
        "x": np.float32,
    }


async def test_rows_of_a_type_that_the_input_does_not_take_are_refused():
    with pytest.raises(QualityError, match="input takes INT64, and the rows are float32"):
        await evaluated(Gateway(scores, inputs=[("input", "INT64")]))
    with pytest.raises(QualityError, match="input takes BYTES"):
        await evaluated(Gateway(scores, inputs=[("input", "BYTES")]))
    with pytest.raises(NotPublishableError, match="has no image, mask, only x"):
        await evaluated(Gateway(scores, inputs=[("image", "FP32"), ("mask", "FP32")]))


async def test_a_set_whose_answers_would_fill_the_memory_is_refused_before_they_do(monkeypatch):
    monkeypatch.setattr(asking, "MOST_KEPT", 3 * ROWS)
    assert (await evaluated(Gateway(scores))).failed_rows == 0
    monkeypatch.setattr(asking, "MOST_KEPT", 3 * ROWS - 1)
    with pytest.raises(QualityError, match="more than 149 numbers: ask fewer rows with --limit"):
        await evaluated(Gateway(scores))


async def test_two_revisions_are_not_one_figure():
    gateway = Gateway(scores)
    gateway.revision = lambda asked: f"r{len(gateway.asked) % 2}"
    with pytest.raises(
        QualityError, match=r"more than one revision answered: 4 by r\d, 4 by r\d\..*--revision"
    ):
        await evaluated(gateway)


async def test_a_revision_that_is_asked_for_is_named_in_each_request():
    gateway = Gateway(scores, revision=lambda asked: asked.revision)
    assert (await evaluated(gateway, revision="r2")).revision == "r2"
    assert {asked.revision for asked in gateway.asked} == {"r2"}


async def test_it_waits_for_a_revision_that_is_not_ready_yet():
    gateway = Gateway(scores, revision=lambda asked: asked.revision, busy=[503, 404, 503])
    assert (await evaluated(gateway, revision="r2")).revision == "r2"


async def test_another_revision_than_the_one_asked_for_is_waited_out_and_then_refused():
    with pytest.raises(QualityError, match="revision r1 answers and not r2"):
        await evaluated(Gateway(scores), revision="r2", timeout_seconds=0.2)


async def test_answers_of_another_revision_than_asked_for_are_no_evaluation():
    gateway = Gateway(scores)
    gateway.revision = lambda asked: "r2" if len(gateway.asked) < 4 else "r1"
    with pytest.raises(QualityError, match="not all requests were answered by r2"):
        await evaluated(gateway, revision="r2")


async def test_what_is_not_there_is_refused_at_once():
    with pytest.raises(QualityError, match="refused with HTTP 404: waking"):
        await evaluated(Gateway(scores, busy=[404]))


async def test_a_gateway_that_is_not_there_says_how_to_name_one():
    watch = Watch(lambda doing: None, lambda rows, total: None)
    with pytest.raises(QualityError, match="Name the gateway's address with --url"):
        await evaluate("demo/x", Endpoint("http://127.0.0.1:1/demo/x", MODEL), labelled(), Asked(), watch)


async def test_rows_whose_request_failed_are_not_judged_and_are_counted():
    gateway, data = Gateway(scores), labelled()
    refused = data.arrays["x"][7]  # the first row of the second request
    gateway.refuse = lambda asked: (500, "it  broke") if (asked.inputs["input"][0] == refused).all() else None
    found = await evaluated(gateway, data)
    kept = np.r_[0:7, 14:ROWS]
    assert found.quality == quality(scores(data.arrays["x"][kept]), data.classes[kept])
    assert (found.failures, found.failed_rows) == ({"HTTP 500: it broke": 1}, 7)


async def test_failures_in_a_row_end_it_with_the_reason():
    gateway = Gateway(scores, refuse=lambda asked: (400, "batch-size must be <= 4"))
    with pytest.raises(QualityError, match=rf"{IN_A_ROW} requests in a row failed.*batch-size must be <= 4"):
        await evaluated(gateway, batch=1)
    assert len(gateway.asked) < ROWS
    with pytest.raises(QualityError, match="no request was answered: HTTP 400: batch-size must be <= 4"):
        await evaluated(gateway, batch=ROWS)


async def test_failures_between_answers_do_not_end_it():
    gateway = Gateway(scores)
    gateway.refuse = lambda asked: (500, "broke") if len(gateway.asked) % 2 else None
    found = await evaluated(gateway, batch=1, concurrency=1)
    assert (found.failed_rows, found.quality.rows) == (ROWS // 2, ROWS // 2)
    assert ROWS // 2 > IN_A_ROW


async def test_a_request_that_never_ends_is_a_failure():
    with pytest.raises(QualityError, match=r"no answer within 0\.2 s"):
        await evaluated(Gateway(scores, stuck=True), timeout_seconds=0.2, batch=ROWS)


async def test_answers_of_the_wrong_length_are_failures():
    with pytest.raises(QualityError, match=r"scores has shape \(6, 3\) for 7 rows"):
        await evaluated(Gateway(lambda rows: scores(rows)[:-1]), batch=7, limit=7)


async def test_answers_that_are_no_scores_are_not_kept():
    gateway = Gateway(lambda rows: np.zeros((len(rows), MOST_SCORES + 1), np.float32))
    with pytest.raises(QualityError, match="that is no classifier"):
        await evaluated(gateway, batch=2, limit=2)


async def test_of_a_limit_rows_are_taken_from_all_over_the_set():
    data = labelled()
    chosen = spread(ROWS, 10)
    found = await evaluated(Gateway(scores), data, limit=10)
    assert found.quality == quality(scores(data.arrays["x"][chosen]), data.classes[chosen])
    np.testing.assert_array_equal(spread(10, 3), [0, 4, 9])
    np.testing.assert_array_equal(spread(3, 10), [0, 1, 2])


async def test_an_output_of_labels_is_judged_and_where_probabilities_may_be_is_said():
    gateway = Gateway(
        lambda rows: scores(rows).argmax(axis=1)[:, None].astype(np.int64),
        outputs=[("label", "INT64"), ("probabilities", "FP32")],
    )
    found = await evaluated(gateway)
    assert found.quality.calibration is None
    assert "--tensor probabilities" in found.notes[0]
    with pytest.raises(QualityError, match="no output odds: take one of label, probabilities"):
        await evaluated(gateway, output="odds")


async def test_not_a_number_is_said():
    found = await evaluated(Gateway(lambda rows: np.full((len(rows), 3), np.nan, np.float32)))
    assert found.quality.accuracy == 0
    assert f"{ROWS} rows were answered with NaN" in found.notes[0]


async def test_the_percent_that_is_recorded_is_rounded_down():
    found = await evaluated(Gateway(scores))
    for correct, rows, want in ((359, 360, "99.7"), (360, 360, "100.0"), (0, 3, "0.0"), (1999, 2000, "99.9")):
        judged = replace(found.quality, correct=correct, rows=rows)
        assert replace(found, quality=judged).accuracy_percent == want


def test_a_revision_that_the_gateway_does_not_name_is_unknown():
    assert the_revision(Counter({"": 3}), None) is None
    assert the_revision(Counter({"r1": 3}), "r1") == "r1"
    with pytest.raises(QualityError, match="not all requests were answered by r1: 3 by one unnamed"):
        the_revision(Counter({"": 3}), "r1")
