"""Asks a served model many rows through the gateway, by the Open Inference Protocol over HTTP.

Triton's client makes the bodies and reads them; the requests are aiohttp's, for the client keeps the headers
to itself, and they say which revision answered.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from lull.api.names import REVISION_HEADER
from lull_runtime.artifact.card import numpy_type
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.measures import Array

IN_A_ROW = 10
"""Requests that fail one after the other before no more are sent."""
MOST_SCORES = 100_000
"""Numbers in the answer to one row."""
MOST_KEPT = 1 << 26
"""Numbers in all answers, which are kept until they are judged: some GiB, and 67,000 rows of 1000 classes."""
_LENGTH = "Inference-Header-Content-Length"
_KINDS_KEPT = 20
_WORDS_KEPT = 300
_BUSY = (429, 503)
_NOT_FOUND = 404
"""Which a revision that is not ready yet is, too."""
_RETRY_SECONDS = (0.1, 5.0)
"""Least and most between two looks whether it answers yet, whatever Retry-After says."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Endpoint:
    """A model behind a gateway.

    Attributes:
        url: the service's URL, without `/v2`.
        model: its name on the wire.
        revision: the one that is to answer; None lets the gateway choose.
        timeout_seconds: how long one request may wait, wakes included.
    """

    url: str
    model: str
    revision: str | None = None
    timeout_seconds: float = 90.0

    @property
    def base(self) -> str:
        """Return the URL of the model's metadata."""
        return f"{self.url.rstrip('/')}/v2/models/{self.model}"

    @property
    def headers(self) -> dict[str, str]:
        """Return what pins the revision."""
        return {REVISION_HEADER: self.revision} if self.revision else {}


@dataclass(frozen=True)
class Described:
    """What a model says of itself: its tensors' names and datatypes, in its own order."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    wait_seconds: float
    """How long it took until it answered: what a wake took, where it slept."""


@dataclass
class Answers:
    """What came back.

    Attributes:
        outputs: by number of the batch.
        latencies_seconds: of each request that was answered.
        failures: requests that failed, by why.
        revisions: requests by the revision that answered; "" where the gateway did not say.
        in_a_row: requests that failed since one was answered.
        kept: numbers in `outputs`.
    """

    outputs: dict[int, Array] = field(default_factory=dict)
    latencies_seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    in_a_row: int = 0
    kept: int = 0

    def came(self, number: int, found: Array, seconds: float, revision: str) -> None:
        """Keep an answer.

        Raises:
            QualityError: all of them together are too many to be kept.
        """
        self.kept += found.size
        if self.kept > MOST_KEPT:
            raise QualityError(
                f"the answers hold more than {MOST_KEPT:,} numbers: ask fewer rows with --limit, or for an "
                "output of fewer with --tensor"
            )
        self.in_a_row = 0
        self.outputs[number] = found
        self.latencies_seconds.append(seconds)
        self.revisions[revision] += 1

    def failed(self, why: str) -> None:
        """Count a request that failed.

        Raises:
            QualityError: too many did, one after the other.
        """
        self.failures[why if why in self.failures or len(self.failures) < _KINDS_KEPT else "others"] += 1
        self.in_a_row += 1
        if self.in_a_row >= IN_A_ROW:
            raise QualityError(f"{self.in_a_row} requests in a row failed, the last one so: {why}")


def session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """Return what asks an endpoint, with its deadline."""
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_seconds, connect=10.0)
    return aiohttp.ClientSession(timeout=timeout, headers=endpoint.headers)


async def describe(client: aiohttp.ClientSession, endpoint: Endpoint, tell: Tell) -> Described:
    """Return what the model says of itself, once it is awake and of the revision that was asked for.

    Raises:
        QualityError: it is not within the endpoint's timeout, or there is no such model.
    """
    started, why = time.monotonic(), ""
    while time.monotonic() - started < endpoint.timeout_seconds:
        try:
            async with client.get(endpoint.base) as response:
                text = await response.text()
                answered_by = response.headers.get(REVISION_HEADER)
                if response.status == 200 and endpoint.revision in (None, answered_by):
                    return _described(json.loads(text), time.monotonic() - started)
                why = _not_yet(endpoint, response.status, answered_by, text)
                pause_seconds = float(response.headers.get("Retry-After", "1"))
        except (aiohttp.InvalidURL, aiohttp.ClientConnectorError) as error:
            raise QualityError(
                f"nothing answers at {endpoint.url}: {error}. Name the gateway's address with --url, "
                "such as http://ADDRESS/NAMESPACE/NAME"
            ) from error
        except TimeoutError:
            break
        except (aiohttp.ClientError, ValueError, KeyError, TypeError) as error:
            raise QualityError(f"{endpoint.base} is not answered as a model would: {error!r}") from error
        tell(f"waiting until it answers: {why}")
        await asyncio.sleep(min(max(_RETRY_SECONDS[0], pause_seconds), _RETRY_SECONDS[1]))
    raise QualityError(
        f"it did not answer within {endpoint.timeout_seconds:g} s{': ' if why else ''}{why}. "
        "kubectl describe modelservice says why; --timeout waits longer"
    )


async def ask(
    client: aiohttp.ClientSession,
    endpoint: Endpoint,
    inputs: Mapping[str, Array],
    output: str,
    *,
    batch: int,
    concurrency: int,
    on_rows: Callable[[int], None],
) -> Answers:
    """Return what the model answers to all rows, `batch` of them a request.

    Args:
        client: made by `session` for the endpoint.
        endpoint: the model.
        inputs: tensors by name, of the model's own types, as many rows each.
        output: the tensor to bring back.
        batch: rows of one request; the last one may have fewer.
        concurrency: requests in flight at once.
        on_rows: told how many rows more are over.

    Raises:
        QualityError: many requests in a row failed.
    """
    answers = Answers()
    rows = len(next(iter(inputs.values())))
    batches = enumerate(range(0, rows, batch))

    async def worker(todo: Iterator[tuple[int, int]]) -> None:
        for number, first in todo:  # one iterator for all workers: each batch is taken once
            part = {name: array[first : first + batch] for name, array in inputs.items()}
            await _ask_once(client, endpoint, part, output, number, answers)
            on_rows(len(next(iter(part.values()))))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker(batches))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    return answers


def fitted(array: Array, name: str, datatype: str) -> Array:
    """Return an array in the type that an input takes.

    Raises:
        QualityError: its values cannot be sent as that.
    """
    try:
        wanted = numpy_type(datatype)
    except KeyError:
        wanted = None
    if wanted is None or not np.can_cast(array.dtype, wanted, "same_kind"):
        raise QualityError(f"{name} takes {datatype}, and the rows are {array.dtype}: save them as that")
    return np.ascontiguousarray(array, wanted)


async def _ask_once(
    client: aiohttp.ClientSession,
    endpoint: Endpoint,
    part: Mapping[str, Array],
    output: str,
    number: int,
    answers: Answers,
) -> None:
    body, headers = _body(part, output)
    started = time.monotonic()
    try:
        async with client.post(f"{endpoint.base}/infer", data=body, headers=headers) as response:
            content = await response.read()
            seconds = time.monotonic() - started
            if response.status != 200:
                answers.failed(f"HTTP {response.status}: {_words(content.decode(errors='replace'))}")
                return
            found = _tensor(content, response.headers.get(_LENGTH), output)
            answered_by = response.headers.get(REVISION_HEADER, "")
    except TimeoutError:
        answers.failed(f"no answer within {endpoint.timeout_seconds:g} s")
        return
    except (aiohttp.ClientError, InferenceServerException, ValueError) as error:
        answers.failed(_words(f"{type(error).__name__}: {error}"))
        return
    rows = len(next(iter(part.values())))
    if not found.ndim or len(found) != rows:
        answers.failed(f"{output} has shape {found.shape} for {rows} rows")
        return
    if found[0].size > MOST_SCORES:
        answers.failed(f"{output} has {found[0].size:,} numbers a row: that is no classifier")
        return
    answers.came(number, found, seconds, answered_by)


def _body(part: Mapping[str, Array], output: str) -> tuple[bytes, dict[str, str]]:
    tensors = []
    for name, array in part.items():
        tensor = triton.InferInput(name, list(array.shape), triton.np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=True)
        tensors.append(tensor)
    wanted = [triton.InferRequestedOutput(output, binary_data=True)]
    body, json_bytes = triton.InferenceServerClient.generate_request_body(tensors, outputs=wanted)
    return body, {_LENGTH: str(json_bytes), "Content-Type": "application/octet-stream"}


def _tensor(content: bytes, json_bytes: str | None, output: str) -> Array:
    length = int(json_bytes) if json_bytes else None
    result = triton.InferenceServerClient.parse_response_body(content, header_length=length)
    found: Array | None = result.as_numpy(output)
    if found is None:
        raise ValueError(f"the answer has no {output}")
    return found


def _described(answer: dict[str, Any], wait_seconds: float) -> Described:
    inputs, outputs = (
        {str(tensor["name"]): str(tensor["datatype"]) for tensor in answer[which]}
        for which in ("inputs", "outputs")
    )
    return Described(inputs, outputs, wait_seconds)


def _not_yet(endpoint: Endpoint, status: int, answered_by: str | None, text: str) -> str:
    """Say what is waited for, where there is hope."""
    if status == 200:
        return (
            f"revision {answered_by or 'unknown'} answers and not {endpoint.revision}, which is not ready or "
            "in no rollout (kubectl lull rollout status)"
        )
    if status in _BUSY or (status == _NOT_FOUND and endpoint.revision):
        return f"HTTP {status}: {_words(text)}"
    raise QualityError(f"{endpoint.base} is refused with HTTP {status}: {_words(text)}")


def _words(text: str) -> str:
    return " ".join(text.split())[:_WORDS_KEPT]
