"""Triton's control and inference over gRPC, each call with a deadline and the control key.

Over gRPC and not HTTP: a load gets a thread of its own there, where over HTTP it stalls other requests.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from lull_runtime.artifact.card import numpy_type
from lull_runtime.measure.totals import Totals
from lull_runtime.triton import GRPC_KEY_HEADER

_Method = Callable[..., Awaitable[Any]]
"""A generated call; what it takes and gives has no Python types."""
Arrays = Mapping[str, NDArray[np.generic]]

_CALL_SECONDS = 5.0
_INFER_SECONDS = 30.0
_MESSAGE_BYTES = 256 << 20
_OPTIONS = [
    # Triton comes back within a second of a crash: do not let the channel sleep longer than that.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
]


class TritonDownError(Exception):
    """Triton does not answer; whatever it held is gone or not to be relied on."""


class TritonError(Exception):
    """Triton answered with an error; the message is its own."""


class TritonTimeoutError(Exception):
    """Triton took the call and did not finish it in time; it may still be at it."""


@dataclass(frozen=True)
class Usage:
    """What Triton counted of a model since its load.

    Attributes:
        totals: its counters.
        last_seconds: when the last request was answered, in seconds since the epoch; 0 where there was none.
    """

    totals: Totals = field(default_factory=Totals)
    last_seconds: float = 0.0


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model; free axes are -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


Signature = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Inputs and outputs."""


class Triton:
    """One Triton server."""

    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = ((GRPC_KEY_HEADER, key),)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def live(self) -> bool:
        """Whether it answers at all."""
        try:
            answer = await self._call(self._stub.ServerLive, service_pb2.ServerLiveRequest(), 1.0)
        except (TritonDownError, TritonError, TritonTimeoutError):
            return False
        return bool(answer.live)

    async def disconnected(self) -> None:
        """Return once the connection that carries the calls is lost."""
        state = self._channel.get_state(try_to_connect=True)
        while state != grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        await self._channel.wait_for_state_change(state)

    async def index(self) -> dict[str, str]:
        """Return the state of each model in the repository: `READY`, `LOADING`, `UNLOADING`, or ``.

        The empty state is that of a model that takes no memory: never loaded, unloaded, or failed to load.
        """
        answer = await self._call(
            self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), _CALL_SECONDS
        )
        return {model.name: "" if _is_gone(model) else model.state for model in answer.models}

    async def load(self, name: str, timeout_seconds: float) -> None:
        """Load a model from the repository.

        Raises:
            TritonTimeoutError: it is not loaded yet; Triton goes on with it, and nothing can stop that.
            TritonError: it cannot be loaded.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        await self._call(self._stub.RepositoryModelLoad, request, timeout_seconds)

    async def unload(self, name: str) -> None:
        """Have a model take no new requests; it is gone once `index` says so."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
        await self._call(self._stub.RepositoryModelUnload, request, _CALL_SECONDS)

    async def usage(self, name: str = "") -> dict[str, Usage]:
        """Return what each model that is ready was used, or one of them by its name.

        Without executions and busy time are the models of a backend that reports no batches (by
        `TRITONBACKEND_ModelInstanceReportBatchStatistics`): then `batch_stats` is empty. Backends of
        NVIDIA's images report them; some of other makers do not, and some do not where all requests failed.
        """
        request = service_pb2.ModelStatisticsRequest(name=name)
        answer = await self._call(self._stub.ModelStatistics, request, _CALL_SECONDS)
        usages: dict[str, Usage] = {}
        for model in answer.model_stats:  # one entry a version
            before = usages.get(model.name, Usage())
            last_seconds = max(before.last_seconds, model.last_inference / 1000)
            usages[model.name] = Usage(before.totals + _totals(model), last_seconds)
        return usages

    async def signature(self, name: str) -> Signature:
        """Return the inputs and the outputs of a loaded model, the batch axis included, as -1."""
        request = service_pb2.ModelMetadataRequest(name=name)
        answer = await self._call(self._stub.ModelMetadata, request, _CALL_SECONDS)
        return _tensors(answer.inputs), _tensors(answer.outputs)

    async def infer(self, name: str, inputs: Arrays, datatypes: Mapping[str, str]) -> dict[str, NDArray[Any]]:
        """Run one inference and return all outputs.

        Raises:
            TritonError: the model refused or failed, or an output is of strings.
        """
        request = service_pb2.ModelInferRequest(model_name=name)
        for tensor, array in inputs.items():
            request.inputs.add(name=tensor, datatype=datatypes[tensor], shape=array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        answer = await self._call(self._stub.ModelInfer, request, _INFER_SECONDS)
        try:
            return {
                output.name: np.frombuffer(raw, numpy_type(output.datatype)).reshape(output.shape)
                for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
            }
        except (KeyError, ValueError) as error:
            raise TritonError(f"its outputs are not all tensors of fixed-size numbers: {error}") from error

    async def _call(self, method: _Method, request: object, timeout_seconds: float) -> Any:  # noqa: ANN401  no types
        try:
            return await method(request, timeout=timeout_seconds, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error


def _tensors(entries: Iterable[service_pb2.ModelMetadataResponse.TensorMetadata]) -> tuple[Tensor, ...]:
    return tuple(Tensor(entry.name, entry.datatype, tuple(entry.shape)) for entry in entries)


def _totals(model: service_pb2.ModelStatistics) -> Totals:
    stats = model.inference_stats
    return Totals(
        stats.success.count,
        stats.fail.count,
        stats.success.ns,
        stats.queue.ns,
        model.execution_count,
        model.inference_count,
        sum(batch.compute_infer.ns for batch in model.batch_stats),
    )


def _is_gone(model: service_pb2.RepositoryIndexResponse.ModelIndex) -> bool:
    return model.state in ("", "UNAVAILABLE")


def _translated(error: grpc.aio.AioRpcError) -> Exception:
    message = error.details() or error.code().name
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TritonTimeoutError(message)
    # Triton says UNAVAILABLE too, of models; what the transport says carries no trailer of a server.
    if error.code() is grpc.StatusCode.UNAVAILABLE and _is_transport(message):
        return TritonDownError(message)
    if error.code() is grpc.StatusCode.CANCELLED:
        return TritonDownError(message)
    return TritonError(message)


def _is_transport(message: str) -> bool:
    marks = ("failed to connect", "connection", "socket", "stream", "goaway", "transport", "endpoint")
    return any(mark in message.lower() for mark in marks)
