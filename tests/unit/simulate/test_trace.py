"""Traces are read as they are written, and a wrong line is named."""

import gzip
import time
from pathlib import Path

import pytest

from lull.simulate import trace as module
from lull.simulate.setting import GIB
from lull.simulate.trace import TraceError, read_csv

DATA = Path(__file__).parents[2] / "data" / "traces"
PLAIN = "timestamp,model,duration\n"
PACKED = gzip.compress(PLAIN.encode())


@pytest.fixture
def file(tmp_path):
    def write(text, name="trace.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read(*files):
    return read_csv(files, memory_bytes=7)


def requests(trace):
    keys = [trace.models[model].key for model in trace.model]
    return list(zip(trace.at_seconds, keys, trace.duration_seconds, strict=True))


def test_requests_come_in_the_order_of_time_from_zero_on(file):
    trace = read(file(PLAIN + "107.5,b,2\n100,a,0.5\n100,b,1\n"))
    assert requests(trace) == [(0, "default/a", 0.5), (0, "default/b", 1), (7.5, "default/b", 2)]
    assert trace.length_seconds == 9.5
    assert trace.name == "trace"


def test_dates_are_read_with_and_without_zone_as_utc(file):
    text = "2026-01-01T00:00:00Z,a,1\n2026-01-01T01:00:01.5+01:00,a,1\n2026-01-01 00:00:02.2500000,a,1\n"
    assert list(read(file(PLAIN + text)).at_seconds) == [0, 1.5, 2.25]


def test_columns_may_stand_in_any_order_and_others_do_not_matter(file):
    trace = read(file("duration, user ,model,timestamp\n1,x,red/a,0\n\n2,y,a,1\n"))
    assert requests(trace) == [(0, "red/a", 1), (1, "default/a", 2)]
    assert trace.models[0].tenant == "red"


def test_a_model_has_the_size_that_some_line_gives_it_and_else_the_usual(file):
    trace = read(file("timestamp,model,duration,memory_gib\n0,a,1,\n1,a,1,2.5\n2,b,1,\n"))
    assert {model.key: model.memory_bytes for model in trace.models} == {
        "default/a": round(2.5 * GIB),
        "default/b": 7,
    }


def test_several_files_are_one_trace_of_one_clock(file):
    one = file(PLAIN + "10,a,1\n30,b,1\n", "one.csv")
    two = file(PLAIN + "20,b,1\n", "two.csv")
    trace = read(one, two)
    assert requests(trace) == [(0, "default/a", 1), (10, "default/b", 1), (20, "default/b", 1)]
    assert trace.name == "one+two"


def test_the_two_services_of_azure_are_two_models_with_durations_from_tokens():
    trace = read(*sorted(DATA.glob("*.gz")))
    assert [model.key for model in trace.models] == [
        "default/AzureLLMInferenceTrace_code",
        "default/AzureLLMInferenceTrace_conv",
    ]
    assert len(trace) == 28_185
    assert 3_500 < trace.length_seconds < 3_700
    assert trace.models[trace.model[0]].key.endswith("conv")  # it begins a minute earlier
    assert trace.duration_seconds[0] == pytest.approx(374 * 0.0001 + 44 * 0.02)


def test_a_trace_may_be_packed_and_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "packed.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + PLAIN + "0,a,1\n").encode()))
    trace = read(path)
    assert len(trace) == 1
    assert trace.name == "packed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN + "0,a,1\nnoon,a,1\n", r"trace\.csv:3: timestamp 'noon' is neither seconds"),
        (PLAIN + "inf,a,1\n", r":2: timestamp 'inf'"),
        (PLAIN + "0,a,-1\n", r":2: duration '-1' is no number from 0 on"),
        (PLAIN + "0,a,nan\n", r":2: duration 'nan'"),
        (PLAIN + "0,,1\n", r":2: no model"),
        (PLAIN + "0,a\n", r":2: fewer cells"),
        (PLAIN + "0,a,1\n2026-01-01,a,1\n", r":3: some timestamps are seconds and some are dates"),
        ("timestamp,model,duration,memory_gib\n0,a,1,1\n0,a,1,2\n", r":3: another memory_gib of default/a"),
        ("timestamp,model,duration,memory_gib\n0,a,1,big\n", r":2: memory_gib 'big'"),
        (
            "timestamp,model,duration,memory_gib\n0,a,1,0\n",
            r":2: memory_gib '0' of default/a: a model takes some",
        ),
        ("timestamp,model,duration,memory_gib\n0,a,1,1e-12\n", r":2: memory_gib '1e-12' of default/a"),
        (PLAIN + "0,a,86401\n", r":2: a request that computes for 86401 s, over a day: .* not milliseconds"),
        (PLAIN + "0,a,1\n34560001,a,1\n", r":3: timestamp '34560001' is .* not milliseconds"),
        (PLAIN + "1790000000000,a,1\n", r":2: timestamp '1790000000000' is .* not milliseconds"),
        (PLAIN + "2026-01-01,a,1\n2028-01-01,a,1\n", r":3: timestamp '2028-01-01' is .* from the first one"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n0,x,1\n", r":2: ContextTokens 'x'"),
        ("time,model\n0,a\n", r":1: the header line is 'time,model'; it has to name timestamp"),
        ("", r":1: the header line"),
        (PLAIN, r"no requests, so nothing to simulate"),
        (PLAIN + f"0,{'a' * 200_000},1\n", r":\d: field larger than field limit"),
    ],
)
def test_a_line_that_is_no_request_is_named_with_what_should_stand_there(file, text, said):
    with pytest.raises(TraceError, match=said):
        read(file(text))


def test_a_size_beyond_all_bounds_is_a_number_still(file):
    trace = read(file("timestamp,model,duration,memory_gib\n0,a,1,1e308\n"))
    assert trace.models[0].memory_bytes > 10**14  # no GPU has room for it, which the command says


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x1f\x8b nothing packed", PACKED[:-9], PACKED[:10] + b"\xff" + PACKED[11:]]
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / ("a.csv.gz" if content.startswith(b"\x1f") else "a.csv")
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"cannot be read"):
        read(path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"gone\.csv: cannot be read: .*No such file"):
        read(tmp_path / "gone.csv")


def test_a_trace_is_bounded(file, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_REQUESTS", 2)
    with pytest.raises(TraceError, match=r":4: more than 2 requests are too many"):
        read(file(PLAIN + "0,a,1\n" * 3))


def test_dates_do_not_depend_on_where_the_reader_is(file, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        trace = read(file(PLAIN + "2026-01-01T00:00:00,a,1\n2026-01-01T00:00:05Z,a,1\n"))
        assert list(trace.at_seconds) == [0, 5]
    finally:
        monkeypatch.undo()
        time.tzset()
