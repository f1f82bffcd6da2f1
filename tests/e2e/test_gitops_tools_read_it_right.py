"""A service's whole life as GitOps tools see it: what they apply stays, and they are told the truth."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from e2e import models
from e2e.load import OK, HttpClient
from e2e.world import NAMESPACE, Object, Service, World
from gitops.health import health
from gitops.tools import Said, ask
from lull.api.names import ENVOY_STATS_PORT, HOSTS_NAMESPACE, SYSTEM_NAMESPACE
from lull.kube import MODELGATEWAYS, MODELPOOLS, MODELSERVICES, PODS, ApiError

NAME = "watched"
MANAGER = "argocd-controller"
TRACKING = {
    "labels": {"app.kubernetes.io/instance": "models", "kustomize.toolkit.fluxcd.io/name": "models"},
    "annotations": {"argocd.argoproj.io/tracking-id": f"models:lull.dev/ModelService:{NAMESPACE}/{NAME}"},
}
TRACKERS = TRACKING["labels"].keys() | TRACKING["annotations"].keys()
SCHEDULE = [{"cron": "0 3 1 1 *", "duration": "1m"}]
STATS_TIMEOUT = aiohttp.ClientTimeout(total=5)
ZEROS = "sha256:" + "0" * 64


@dataclass
class Repository:
    """The user's side: what is committed, and every version of the object that came of it."""

    lull: World
    manifest: Object
    commits: int = 0
    seen: list[Object] = field(default_factory=list)

    def kubectl(self, *arguments: str) -> str:
        return self.lull.cluster.kubectl(*arguments, "-f", "-", stdin=json.dumps(self.manifest))

    async def commit(self, **spec: Any) -> None:
        """Change the spec and have it applied as Argo CD does, twice, as tools do that check now and then."""
        self.manifest["spec"] |= spec
        self.commits += 1
        for _ in range(2):
            await asyncio.to_thread(self.kubectl, "apply", "--server-side", f"--field-manager={MANAGER}")

    async def said(self, state: str) -> Said:
        """Wait for a state and return what the tools say of it, once they find nothing changed."""
        await Service(self.lull, NAME).wait(state)
        item = await Service(self.lull, NAME).get()
        said = ask(item, manifest=self.manifest)
        assert said.health == health(item)
        assert said.drift == {}
        await asyncio.to_thread(self.kubectl, "diff", "--server-side", f"--field-manager={MANAGER}")
        return said

    async def follow(self, version: str) -> None:
        async for event in self.lull.kube.watch(MODELSERVICES, NAMESPACE, version):
            if event["object"]["metadata"].get("name") == NAME:
                self.seen.append(event["object"])


@pytest.fixture
async def repository(lull: World) -> AsyncIterator[Repository]:
    """A manifest with the marks of GitOps tools, in a pool that has them too; nothing is applied yet."""
    await lull.pool("gitops", hosts={"max": 2}, emptyAfter="2s")
    await lull.kube.merge_patch(MODELPOOLS, "gitops", None, {"metadata": TRACKING})
    slow = lull.put("slow.tar", models.loading_for(1.0))
    spec = {
        "model": {"uri": slow.uri, "digest": slow.digest},
        "pool": "gitops",
        "resources": {"memory": "128Mi"},
        "schedule": SCHEDULE,
    }
    manifest = {
        "apiVersion": "lull.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": NAME, "namespace": NAMESPACE} | TRACKING,
        "spec": spec,
    }
    it = Repository(lull, manifest)
    _, version = await lull.kube.list(MODELSERVICES, NAMESPACE)
    following = asyncio.create_task(it.follow(version))
    try:
        yield it
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        with contextlib.suppress(ApiError):  # it is gone already
            await lull.kube.merge_patch(MODELSERVICES, NAME, NAMESPACE, {"metadata": {"finalizers": None}})
        await lull.kube.delete(MODELSERVICES, NAME, NAMESPACE)


async def test_a_whole_life(lull: World, repository: Repository) -> None:
    service = Service(lull, NAME)
    target = service.targets()[0]
    await repository.commit()
    assert "condition met" in await asyncio.to_thread(
        repository.kubectl, "wait", "--for=condition=Ready", "--timeout=20s"
    )
    asleep = await repository.said("Asleep")
    assert (asleep.kstatus, asleep.health[0]) == ("Current", "Healthy")

    async with HttpClient() as client:
        request = asyncio.create_task(client.infer(target, 1.0))
        waking = await repository.said("Waking")
        assert (waking.kstatus, waking.health[0]) == ("InProgress", "Progressing")
        assert (await request).outcome == OK
        serving = await repository.said("Serving")
        assert (serving.kstatus, serving.health[0]) == ("Current", "Healthy")
        await assert_ours_bears_no_marks(lull)

        slow = asyncio.create_task(client.infer(target, 2.0, upload_seconds=3.0))
        await lull.until(lambda: under_way(target.address), "the slow request is under way", 10)
        await repository.commit(suspend=True)
        draining = await repository.said("Draining")
        assert (draining.kstatus, draining.health[0]) == ("InProgress", "Progressing")
        assert (await slow).outcome == OK
        suspended = await repository.said("Suspended")
        assert (suspended.kstatus, suspended.health[0]) == ("InProgress", "Suspended")

        new = lull.publish()
        await repository.commit(suspend=False, model={"uri": new.uri, "digest": new.digest})
        await repository.said("Asleep")
        assert (await client.infer(target, 3.0)).outcome == OK
        await repository.said("Serving")
        await repository.commit(model={"uri": new.uri, "digest": ZEROS})
        assert "DigestMismatch" in await service.wait_stalled("Rejected")
        rejected = ask(await service.get(), manifest=repository.manifest)
        assert (rejected.kstatus, rejected.health[0]) == ("Failed", "Degraded")
        assert "DigestMismatch" in rejected.health[1]
        assert (await client.infer(target, 4.0)).outcome == OK, "the old revision serves all the same"
        await repository.commit(model={"uri": new.uri, "digest": new.digest})
        await lull.until(lambda: is_fine(service), "a commit that takes it back makes it healthy", 20)

    await assert_terminating_is_seen(lull, service)
    assert_only_the_user_wrote(repository)


async def under_way(gateway: str) -> bool:
    """Return whether a gateway's Envoy has a request that is not answered yet."""
    url = f"http://{gateway.rpartition(':')[0]}:{ENVOY_STATS_PORT}/stats/prometheus"
    async with aiohttp.ClientSession() as session, session.get(url, timeout=STATS_TIMEOUT) as answer:
        found = re.search(r'downstream_rq_active\{[^}]*="inference"[^}]*\} (\d+)', await answer.text())
    assert found, "Envoy does not tell"
    return int(found[1]) > 0


async def is_fine(service: Service) -> bool:
    """Return whether tools say of a service that it is as it should be."""
    said = ask(await service.get())
    return (said.kstatus, said.health[0]) == ("Current", "Healthy")


async def assert_ours_bears_no_marks(lull: World) -> None:
    """Hosts and Pods are not the user's to prune: none bears a mark of what they were made for."""
    hosts = await lull.hosts("gitops")
    pods = [await lull.kube.get(PODS, host["metadata"]["name"], HOSTS_NAMESPACE) for host in hosts]
    assert hosts
    for item in [*hosts, *pods]:
        assert item is not None
        metadata = item["metadata"]
        assert not TRACKERS & (metadata.get("labels", {}).keys() | metadata.get("annotations", {}).keys())
    assert [health(host)[0] for host in hosts] == ["Healthy"]
    gateways, _ = await lull.kube.list(MODELGATEWAYS, SYSTEM_NAMESPACE)
    assert {health(gateway)[0] for gateway in gateways} == {"Healthy"}
    pool = await lull.kube.get(MODELPOOLS, "gitops")
    assert pool is not None
    assert health(pool) == ("Healthy", "1 of 1 hosts are ready")


async def assert_terminating_is_seen(lull: World, service: Service) -> None:
    """Delete it; nothing of Lull's holds it back, only a finalizer of the test's, to see it go."""
    held = {"metadata": {"finalizers": ["e2e.example/look"]}}
    await lull.kube.merge_patch(MODELSERVICES, NAME, NAMESPACE, held)
    await service.delete()
    assert ask(await service.get()).kstatus == "Terminating"
    await lull.kube.merge_patch(MODELSERVICES, NAME, NAMESPACE, {"metadata": {"finalizers": None}})

    async def gone() -> bool:
        return await lull.kube.get(MODELSERVICES, NAME, NAMESPACE) is None

    await lull.until(gone, "it is gone", 10)


def assert_only_the_user_wrote(repository: Repository) -> None:
    """In every version that there ever was, Lull owns the status and nothing else."""
    living = [item for item in repository.seen if "e2e.example/look" not in str(item["metadata"])]
    assert len(living) > 5
    assert max(item["metadata"]["generation"] for item in living) == repository.commits
    for item in living:
        metadata = item["metadata"]
        assert {"labels": metadata["labels"], "annotations": metadata["annotations"]} == TRACKING
        assert not metadata.get("finalizers")
        assert item["spec"]["schedule"] == SCHEDULE
        theirs = [entry for entry in metadata["managedFields"] if entry["manager"] != MANAGER]
        for entry in theirs:
            assert (entry["subresource"], list(entry["fieldsV1"])) == ("status", ["f:status"])
            assert entry["manager"] == "lull-controller"
