import pytest_asyncio

from integration.gateway.harness import Gateway, Upstream


@pytest_asyncio.fixture
async def gateway():
    running = Gateway()
    try:
        yield await running.start()
    finally:
        await running.stop()


@pytest_asyncio.fixture
async def upstream():
    running = await Upstream({"digits", "review"}).start()
    yield running
    await running.stop()
