"""Answers with what it was asked: the quickest model to load, for tests and benches of all the rest."""

import asyncio  # noqa: F401  else the backend imports it within the first request: 20 ms

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "input")) for request in requests]

    def _answer(self, tensor):
        return pb_utils.InferenceResponse([pb_utils.Tensor("output", tensor.as_numpy())])
