"""Publish, fetch, load, validate, infer, unload: the whole way of a model through a host."""

import os
import time

import numpy as np
import tritonclient.grpc as grpcclient

from .conftest import IDENTITY, Bench, as_array, eventually, model


def infer(address: str, name: str, array: np.ndarray, output: str) -> np.ndarray:
    with grpcclient.InferenceServerClient(f"{address}:8001") as client:
        tensor = grpcclient.InferInput("input", array.shape, "FP32")
        tensor.set_data_from_numpy(array)
        return client.infer(name, [tensor], client_timeout=10).as_numpy(output)


async def test_held_out_digits_are_told_by_the_served_network(bench: Bench, digits, held_out):
    bench.put("digits.tar", digits.path)

    bench.host.set_desired([model("digits", digits.digest)])
    status = await bench.until("digits-1", "Ready")

    logits = infer(bench.triton.address, "digits", held_out.images[:50], "output")
    assert logits.shape == (50, 10)
    assert (logits.argmax(axis=1) == held_out.labels[:50]).mean() >= 0.9
    assert status.load_seconds is not None
    assert status.code is False


async def test_a_model_directory_is_served_unedited(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)

    bench.host.set_desired([model("identity", digest)])
    status = await bench.until("identity-1", "Ready")

    assert infer(bench.triton.address, "identity", as_array(1, 2, 3), "output").tolist() == [[1, 2, 3]]
    assert status.code is True
