"""Answers with what it was asked, after a time that is known: what is measured of it can be checked.

Numbers that `slow_every` divides take `slow_milliseconds`, all others `milliseconds`: so a 99th percentile is
a plateau, which does not hang on one request. It sleeps and does not compute, so that many keep their time on
few cores; one instance, so that requests which come together queue.
"""

import asyncio  # noqa: F401  else the backend imports it within the first request: 20 ms
import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._told = {name: float(value["string_value"]) for name, value in parameters.items()}

    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "input")) for request in requests]

    def _answer(self, tensor):
        numbers = tensor.as_numpy()
        slow = numbers.flat[0] % self._told["slow_every"] == 0
        time.sleep(self._told["slow_milliseconds" if slow else "milliseconds"] / 1000)
        return pb_utils.InferenceResponse([pb_utils.Tensor("output", numbers)])
