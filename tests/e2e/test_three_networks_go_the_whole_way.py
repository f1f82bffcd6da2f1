"""Trained, published and signed, put into a real registry and a real S3 server, served from there, evaluated.

Of the three networks the dense one goes by way of both stores. What is answered is what the original answers,
and `lull evaluate` finds of each what the original is worth.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

import networks
from e2e.world import Published, Service, World
from lull.api.names import HOSTS_NAMESPACE
from lull.cli import app
from lull.local import servers
from lull_runtime.publish.forms import Array, open_form
from lull_runtime.publish.labelled import Labelled

POOL, SECRET = "stores", "stores"
ANSWER_SECONDS = 90.0


@dataclass(frozen=True)
class Stores:
    """A registry and an S3 server, who may use them, and the publisher's key."""

    registry: servers.Server
    s3: servers.Server
    home: Path
    """Where docker and aws keep what the publisher shows the stores; the pool's Secret holds the same."""
    private: Path
    public: str

    def of(self, kind: str, name: str) -> str:
        return f"oci://{self.registry.host}/demo/{name}" if kind == "oci" else f"s3://models/{name}"

    @property
    def prefixes(self) -> list[str]:
        return [f"oci://{self.registry.host}/demo/", "s3://models/"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("stores")
    registry, s3 = servers.registry(folder / "registry"), servers.s3(folder / "s3", ["models"])
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "signing.key").write_bytes(private)
    (folder / ".docker").mkdir()
    (folder / ".aws").mkdir()
    auth = base64.b64encode(f"{servers.USER}:{servers.PASSWORD}".encode()).decode()
    (folder / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    (folder / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {servers.USER}\naws_secret_access_key = {servers.PASSWORD}\n"
        f"endpoint_url = http://{s3.host}\n"
    )
    try:
        registry.start()
        s3.start()
        yield Stores(registry, s3, folder, folder / "signing.key", public.decode())
    finally:
        registry.stop(grace_seconds=0)
        s3.stop(grace_seconds=0)


@pytest.fixture
async def pool(lull: World, stores: Stores) -> AsyncIterator[str]:
    """One that takes from these stores only what the publisher signed."""
    files = [
        f"--from-file=.dockerconfigjson={stores.home}/.docker/config.json",
        f"--from-file=aws={stores.home}/.aws/credentials",
    ]
    await asyncio.to_thread(
        lull.cluster.kubectl, "create", "secret", "generic", SECRET, "-n", HOSTS_NAMESPACE, *files
    )
    signer = {"name": "publisher", "publicKey": stores.public}
    await lull.pool(
        POOL,
        allow={"uris": stores.prefixes, "code": False},
        credentials={"secretName": SECRET},
        trust=[{"prefix": prefix, "signedBy": [signer]} for prefix in stores.prefixes],
        emptyAfter="60s",
    )
    yield POOL
    await asyncio.to_thread(lull.cluster.kubectl, "delete", "secret", SECRET, "-n", HOSTS_NAMESPACE)


def published(stores: Stores, to: str, *what: object, signed: bool = True) -> dict[str, Any]:
    """The `spec.model` that `lull publish` prints."""
    command = ["publish", *map(str, what), "--to", to, "-o", "json"]
    if signed:
        command += ["--sign", str(stores.private)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(stores.home))
        patch.chdir(stores.home)
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    model: dict[str, Any] = json.loads(done.stdout)["manifest"]["spec"]["model"]
    return model


def evaluated(service: Service, held_out: Labelled, folder: Path) -> dict[str, Any]:
    """What `lull evaluate` finds through the gateway."""
    data = folder / "held-out.npz"
    np.savez(data, x=held_out.rows, y=held_out.classes)
    url = service.targets()[0].url.partition("/v2/")[0]
    command = ["evaluate", service.name, "-n", service.namespace, "--data", str(data), "--url", url]
    done = CliRunner().invoke(app, [*command, "-o", "json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def ask(url: str, rows: Array) -> Array:
    """Rows in, the first output out, as any client of the Open Inference Protocol asks."""
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    timeout = aiohttp.ClientTimeout(ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, json={"inputs": [tensor]}) as response,
    ):
        assert response.status == 200, await response.text()
        (output,) = (await response.json())["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])


CASES: dict[str, tuple[Callable[[], tuple[Path, Any]], list[str], list[str]]] = {
    "simple-cnn": (
        networks.simple_cnn_weights,
        ["lull_runtime.publish.simple_cnn:SimpleCNN", "--example-shape", "1,1,32,32", "--weights"],
        ["oci"],
    ),
    "lstm": (networks.digit_rows, [], ["s3"]),
    "dense-h5": (networks.tumours, [], ["oci", "s3"]),
}


@pytest.mark.timeout(600)
async def test_three_networks_go_the_whole_way(lull: World, stores: Stores, pool: str) -> None:
    for name, (of, factory, kinds) in CASES.items():
        path, held_out = of()
        rows = held_out.rows[:5]
        original = open_form(
            factory[0] if factory else str(path), weights=path if factory else None, example=rows
        )
        wanted = original.predict(rows)["output"]
        for kind in kinds:
            service_name = f"{name}-{kind}"
            model = await asyncio.to_thread(published, stores, stores.of(kind, name), *factory, path)
            service = await lull.service(service_name, Published(model["uri"], model["digest"]), pool=pool)
            have = await ask(service.targets()[0].url, rows)
            np.testing.assert_allclose(have, wanted, rtol=1e-3, atol=1e-3)
            assert (await service.conditions())["Ready"]["status"] == "True"
            found = await asyncio.to_thread(evaluated, service, held_out, stores.home)
            original_accuracy = held_out.accuracy(original.predict(held_out.rows))
            assert abs(found["quality"]["accuracy"] - original_accuracy) <= 0.001
            assert (found["quality"]["rows"], found["failures"]) == (len(held_out.classes), {})
            (revision,) = (await service.get())["status"]["revisions"]
            assert found["revision"] == revision["name"]


async def test_what_nobody_signed_is_not_served(lull: World, stores: Stores, pool: str) -> None:
    model = await asyncio.to_thread(
        published, stores, stores.of("s3", "unsigned"), "networks:tree", signed=False
    )
    service = await lull.service("unsigned", Published(model["uri"], model["digest"]), pool=pool)
    timeout = aiohttp.ClientTimeout(ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(service.targets()[0].url, json={"inputs": []}) as response,
    ):
        assert response.status == 503
        assert "Unsigned" in await response.text()
    assert "lull publish --sign" in await service.wait_stalled("Unsigned", 10)
