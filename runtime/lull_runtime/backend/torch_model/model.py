"""A Triton Python-backend model: `model.pt2` beside this file, run by PyTorch on the CPU.

Copied into the model's version folder by the agent, which has checked that the file holds data alone.
"""

import asyncio  # noqa: F401  else the backend imports it within the first request: 20 ms
import json
import os
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

Feed = dict[str, np.ndarray[Any, Any]]


class TritonPythonModel:
    """One instance: one program, one thread. Hosts scale by replicas, and models share the cores."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the program; one that PyTorch refuses fails the load with its message."""
        config = json.loads(args["model_config"])
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        torch.set_num_threads(1)
        torch.load = _strictly(torch.load)
        path = os.path.join(args["model_repository"], args["model_version"], "model.pt2")
        self._network = torch.export.load(path).module()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request, those of one shape in one run of the network."""
        feeds = [self._feed(request) for request in requests]
        shapes = {tuple(array.shape[1:] for array in feed.values()) for feed in feeds}
        if len(feeds) == 1 or len(shapes) > 1:
            return [self._answer(feed) for feed in feeds]
        return self._answer_together(feeds)

    def _feed(self, request: Any) -> Feed:  # noqa: ANN401  the backend has no types
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

    def _run(self, feed: Feed) -> list[np.ndarray[Any, Any]]:
        # A copy, as what Triton lends may not be written to, and PyTorch has no such tensors.
        tensors = [torch.from_numpy(np.array(feed[name])) for name in self._inputs]
        with torch.inference_mode():
            answer = self._network(*tensors)
        outputs = [answer] if isinstance(answer, torch.Tensor) else list(answer)
        return [output.numpy() for output in outputs]

    def _answer(self, feed: Feed) -> Any:  # noqa: ANN401
        try:
            return self._response(self._run(feed))
        except Exception as error:  # noqa: BLE001  whatever it is, only this request fails
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))

    def _answer_together(self, feeds: list[Feed]) -> list[Any]:
        sizes = [len(feed[self._inputs[0]]) for feed in feeds]
        try:
            outputs = self._run(
                {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            )
        except Exception:  # noqa: BLE001  one of them is at fault: let only that one fail
            return [self._answer(feed) for feed in feeds]
        ends = np.cumsum(sizes)
        return [
            self._response([np.ascontiguousarray(output[end - size : end]) for output in outputs])
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _response(self, arrays: list[np.ndarray[Any, Any]]) -> Any:  # noqa: ANN401
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in zip(self._outputs, arrays, strict=True)]
        )


def _strictly(load: Any) -> Any:  # noqa: ANN401  torch.load takes and gives anything
    """`torch.load` that never unpickles what is not data: torch.export falls back to that by itself."""

    def strict(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        return load(*args, **(options | {"weights_only": True}))

    return strict
