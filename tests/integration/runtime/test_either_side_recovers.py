"""The agent and Triton each may go and come back; the other carries on."""

import asyncio

from .conftest import IDENTITY, Bench, as_array, eventually, model
from .test_a_published_network_is_served import infer


async def test_an_agent_that_restarts_adopts_what_is_loaded_without_loading_it_again(bench: Bench, digits):
    bench.put("digits.tar", digits.path)
    wanted = [model("digits", digits.digest), model("identity", bench.put("identity.tar", IDENTITY))]
    bench.host.set_desired(wanted)
    before = await bench.until("digits-1", "Ready")
    await bench.until("identity-1", "Ready")
    await bench.stop_agent()

    bench.start_agent()
    bench.host.set_desired(wanted)
    status = await bench.until("digits-1", "Ready")
    await bench.until("identity-1", "Ready")

    assert status.load_seconds == before.load_seconds  # that of the first load: there was no second
    assert loads(bench, "digits") == loads(bench, "identity") == 1


async def test_an_agent_that_restarts_unloads_what_is_no_longer_wanted(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest)])
    await bench.until("identity-1", "Ready")
    await bench.stop_agent()

    bench.start_agent()
    bench.host.set_desired([model("identity", digest, placement="identity-2")])

    await bench.until("identity-2", "Ready")
    assert loads(bench, "identity") == 2


async def test_an_agent_that_does_not_know_yet_what_is_wanted_unloads_nothing(bench: Bench):
    bench.host.set_desired([model("identity", bench.put("identity.tar", IDENTITY))])
    await bench.until("identity-1", "Ready")
    await bench.stop_agent()

    bench.start_agent()
    await eventually(lambda: bench.host.triton_up)

    assert (await bench.driver.index())["identity"] == "READY"


async def test_models_come_back_by_themselves_after_triton_was_killed(bench: Bench, digits):
    bench.put("digits.tar", digits.path)
    bench.host.set_desired(
        [model("digits", digits.digest), model("identity", bench.put("identity.tar", IDENTITY))]
    )
    await bench.until("digits-1", "Ready")
    await bench.until("identity-1", "Ready")

    bench.triton.kill()
    await bench.until("digits-1", "Loading", 2.0)
    assert bench.status("identity-1").state == "Loading"
    assert not bench.host.triton_up
    bench.triton.start()

    await bench.until("digits-1", "Ready")
    await bench.until("identity-1", "Ready")
    assert infer(bench.triton.address, "identity", as_array(4)).tolist() == [[4]]


async def test_a_triton_that_was_replaced_between_two_looks_is_noticed(bench: Bench):
    bench.host.set_desired([model("identity", bench.put("identity.tar", IDENTITY))])
    await bench.until("identity-1", "Ready")
    await bench.driver.unload("identity")

    await eventually(lambda: loads(bench, "identity") == 2)
    await bench.until("identity-1", "Ready")


async def test_what_was_to_be_unloaded_while_triton_is_down_is_gone(bench: Bench):
    bench.host.set_desired([model("identity", bench.put("identity.tar", IDENTITY))])
    await bench.until("identity-1", "Ready")
    bench.triton.kill()
    await bench.until("identity-1", "Loading", 2.0)

    bench.host.set_desired([])

    await bench.until("identity-1", None, 1.0)


async def test_the_control_key_keeps_everyone_else_from_loading(bench: Bench):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    await eventually(lambda: bench.host.triton_up)
    async with grpc.aio.insecure_channel(f"{bench.triton.address}:8001") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call, request in [
            (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="x")),
            (stub.RepositoryIndex, service_pb2.RepositoryIndexRequest()),
            (stub.ModelStatistics, service_pb2.ModelStatisticsRequest()),
            (stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
        ]:
            answer = await asyncio.gather(call(request, timeout=5), return_exceptions=True)
            assert "restricted" in answer[0].details()


def loads(bench: Bench, name: str) -> int:
    log = (bench.folder / "triton.log").read_text(errors="replace")
    return log.count(f"successfully loaded '{name}'")
