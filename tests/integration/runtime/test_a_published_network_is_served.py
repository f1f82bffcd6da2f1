"""Publish, fetch, load, validate, infer, unload: the whole way of a model through a host."""

import numpy as np
import tritonclient.grpc as grpcclient

from lull.api.quantities import parse_bytes
from lull_runtime.measure.memory import stub_bytes

from .conftest import IDENTITY, Bench, as_array, eventually, model


def infer(address: str, name: str, array: np.ndarray) -> np.ndarray:
    with grpcclient.InferenceServerClient(f"{address}:8001") as client:
        tensor = grpcclient.InferInput("input", array.shape, "FP32")
        tensor.set_data_from_numpy(array)
        return client.infer(name, [tensor], client_timeout=10).as_numpy("output")


async def test_held_out_digits_are_told_by_the_served_network(bench: Bench, digits, held_out):
    bench.put("digits.tar", digits.path)

    bench.host.set_desired([model("digits", digits.digest)])
    status = await bench.until("digits-1", "Ready")

    logits = infer(bench.triton.address, "digits", held_out.images[:50])
    assert logits.shape == (50, 10)
    assert (logits.argmax(axis=1) == held_out.labels[:50]).mean() >= 0.9
    assert float(status.load_seconds) > 0
    assert status.code is False


async def test_requests_of_different_clients_share_a_batch_and_each_gets_its_own_rows(
    bench: Bench, digits, held_out
):
    bench.put("digits.tar", digits.path)
    bench.host.set_desired([model("digits", digits.digest)])
    await bench.until("digits-1", "Ready")

    alone = [infer(bench.triton.address, "digits", held_out.images[i : i + 1]) for i in range(16)]
    with grpcclient.InferenceServerClient(f"{bench.triton.address}:8001") as client:
        pending = []
        for i in range(16):
            tensor = grpcclient.InferInput("input", [1, 1, 32, 32], "FP32")
            tensor.set_data_from_numpy(held_out.images[i : i + 1])
            answers: list = []
            client.async_infer("digits", [tensor], lambda result, error, a=answers: a.append((result, error)))
            pending.append(answers)
        await eventually(lambda: all(pending))

    for one, [(result, error)] in zip(alone, pending, strict=True):
        assert error is None
        np.testing.assert_allclose(result.as_numpy("output"), one, atol=1e-4)


async def test_a_model_directory_is_served_unedited(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)

    bench.host.set_desired([model("identity", digest)])
    status = await bench.until("identity-1", "Ready")

    assert infer(bench.triton.address, "identity", as_array(1, 2, 3)).tolist() == [[1, 2, 3]]
    assert status.code is True
    served = bench.folder / "repository" / "identity" / "config.pbtxt"
    assert served.read_bytes() == (IDENTITY / "config.pbtxt").read_bytes()


async def test_memory_is_measured_on_the_processes_that_serve_the_model(bench: Bench, digits):
    bench.put("digits.tar", digits.path)
    bench.host.set_desired([model("digits", digits.digest)])
    await bench.until("digits-1", "Ready")

    measured = stub_bytes(bench.folder / "repository" / "digits")
    await eventually(lambda: abs(parse_bytes(bench.status("digits-1").memory) - measured) < measured / 5)


async def test_an_absent_placement_is_gone_only_when_its_processes_are(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest)])
    await bench.until("identity-1", "Ready")
    directory = bench.folder / "repository" / "identity"
    assert stub_bytes(directory)

    bench.host.set_desired([])
    await bench.until("identity-1", "Unloading", 1.0)
    await bench.until("identity-1", None)

    assert stub_bytes(directory) is None


async def test_a_second_wake_on_the_same_host_fetches_nothing(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest)])
    await bench.until("identity-1", "Ready")
    bench.host.set_desired([])
    await bench.until("identity-1", None)
    (bench.folder / "files" / "identity.tar").unlink()

    bench.host.set_desired([model("identity", digest, placement="identity-2")])

    await bench.until("identity-2", "Ready")


async def test_a_new_placement_of_a_name_waits_until_the_old_one_is_gone(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest)])
    await bench.until("identity-1", "Ready")

    bench.host.set_desired([model("identity", digest, placement="identity-2")])
    await bench.until("identity-1", "Unloading", 1.0)
    assert bench.status("identity-2").state == "Loading"
    await bench.until("identity-2", "Ready")

    assert bench.status("identity-1") is None


async def test_idleness_is_told_after_idle_after_and_taken_back_on_use(bench: Bench, digits):
    bench.put("digits.tar", digits.path)
    bench.host.set_desired([model("digits", digits.digest, idle_after="400ms")])
    ready = await bench.until("digits-1", "Ready")
    assert ready.idle_since is None
    assert bench.meter.accounts["digits-1"].totals.requests == 0  # the agent's golden runs are not use

    await eventually(lambda: bench.status("digits-1").idle_since is not None, 3)
    infer(bench.triton.address, "digits", np.zeros((1, 1, 32, 32), np.float32))
    await eventually(lambda: bench.status("digits-1").idle_since is None, 3)
    assert bench.meter.accounts["digits-1"].totals.requests == 1
    await eventually(lambda: bench.status("digits-1").idle_since is not None, 3)


async def test_a_placement_that_is_routed_again_is_not_idle(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest, idle_after="1s")])
    await bench.until("identity-1", "Ready")
    await eventually(lambda: bench.status("identity-1").idle_since is not None, 5)

    bench.host.set_desired([model("identity", digest, idle_after="1s", epoch=2)])

    assert bench.status("identity-1").idle_since is None
