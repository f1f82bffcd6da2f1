"""The life of one Pod on a process node: volumes, containers in order, status, and its end."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lull.kube import CONFIGMAPS, PODS, ApiError, Kube, Resource
from lull.local.node import environment, images, volumes
from lull.local.node.container import Container, Files, Launch, NoSuchImageError
from lull.local.node.environment import ConfigurationError, Context, Object
from lull.local.node.status import Facts, is_sidecar, status

log = logging.getLogger(__name__)

FIELD_MANAGER = "lull-local-node"
SECRETS = Resource("", "v1", "secrets", "Secret")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
SOURCES = {resource.kind: resource for resource in (CONFIGMAPS, SECRETS)}
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0
GRACE_SECONDS = 30
VANISHED_GRACE_SECONDS = 2  # the API object is gone already: there is nobody to wait for
ENDED_PHASES = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Host:
    """What a Pod needs of the machine it runs on.

    Attributes:
        pods: the folder with one folder a Pod; `logs`: the one with one folder of logs a Pod.
        table: what each image is.
        allocatable: what a container without limits could use, by resource.
        new_address: gives the next free Pod address.
        variables: the environment that every process starts from.
    """

    kube: Kube
    pods: Path
    logs: Path
    server: str
    authority: Path
    address: str
    table: images.Table
    allocatable: Mapping[str, str]
    new_address: Callable[[], str]
    variables: Mapping[str, str] = field(default_factory=dict)


class PodWorker:
    """Runs one Pod, the one with this uid, from its binding to the end of its last process."""

    def __init__(self, pod: Object, host: Host) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self._host = host
        self._key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._folder = host.pods / self.uid[:8]
        self._facts = Facts(host.new_address(), host.address, _now())
        self._init: list[Container] = []
        self._main: list[Container] = []
        self._begun: list[Container] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._volumes: list[Object] = []
        self._tokens: list[volumes.Token] = []
        self._leaving = asyncio.Event()
        self._vanished = False
        self._grace_seconds: float = GRACE_SECONDS
        self._dirty = asyncio.Event()
        self._written: Object = {}

    def update(self, pod: Object) -> None:
        """Takes note of the Pod's newest state in the API."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._grace_seconds = pod["metadata"].get("deletionGracePeriodSeconds", GRACE_SECONDS)
            self._leaving.set()
        if pod["spec"].get("readinessGates"):
            self._dirty.set()

    def vanish(self, grace_seconds: float = VANISHED_GRACE_SECONDS) -> None:
        """The Pod is gone from the API (or the node ends): end its processes and write nothing more."""
        self._vanished = True
        self._grace_seconds = grace_seconds
        self._leaving.set()

    def log(self, container: str, *, previous: bool = False) -> Path | None:
        """The log of a container's present (or previous) run; None where it has none."""
        for found in (*self._init, *self._main):
            if found.name == container:
                path = self._files(container).log(found.restart_count - int(previous))
                return path if path.exists() else None
        return None

    async def run(self) -> None:
        """Runs the Pod to its end. Whatever goes wrong in it stays in it."""
        if self._leaving.is_set():  # deleted before it was ever run here
            await self._delete()
            return
        writing = asyncio.create_task(self._write_status())
        try:
            await self._live()
        except Exception:
            log.exception("%s: gave up", self._key)
            await self._leaving.wait()
        finally:
            await self._end()
            if not self._vanished:
                await self._flush(writing)
            writing.cancel()
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._vanished:
            await self._leaving.wait()
            await self._delete()

    async def _live(self) -> None:
        self._init = [self._container(spec) for spec in self.pod["spec"].get("initContainers", [])]
        self._main = [self._container(spec) for spec in self.pod["spec"]["containers"]]
        self._dirty.set()
        if not await self._until_left(self._prepare_volumes()):
            return
        self._spawn(self._renew_tokens())
        for container in self._init:
            self._begin(container)
            await self._until_left(self._initialized(container))
            if self._leaving.is_set() or self._broken(container):
                return
        for container in self._main:
            self._begin(container)
        await self._until_left(self._all_done())

    async def _end(self) -> None:
        """Ends the main containers together, then the sidecars in reverse order, within one grace."""
        deadline = asyncio.get_running_loop().time() + self._grace_seconds
        alive = [container for container in self._begun if not container.done.is_set()]
        await asyncio.gather(*(container.stop(deadline) for container in alive if container in self._main))
        for container in reversed(alive):
            await container.stop(deadline)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, container: Container) -> None:
        self._begun.append(container)
        self._spawn(container.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _until_left(self, work: Coroutine[Any, Any, None]) -> bool:
        """Does the work unless the Pod has to leave first; whether it was done."""
        doing = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
            return doing.done()
        finally:
            for future in (doing, leaving):
                future.cancel()

    async def _initialized(self, container: Container) -> None:
        await (container.has_started if is_sidecar(container.spec) else container.done).wait()

    def _broken(self, container: Container) -> bool:
        return not is_sidecar(container.spec) and container.exit_code != 0

    async def _all_done(self) -> None:
        for container in self._main:
            await container.done.wait()

    def _container(self, spec: Object) -> Container:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if spec in self.pod["spec"].get("initContainers", []):
            policy = "Always" if is_sidecar(spec) else {"Always": "OnFailure"}.get(policy, policy)
        return Container(
            spec,
            restarts=lambda code: policy == "Always" or (policy == "OnFailure" and code != 0),
            configure=self._configure,
            address=self._facts.pod_address,
            files=self._files(spec["name"]),
            on_change=self._dirty.set,
            grace_seconds=self.pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS),
            restart_count=self._restarts_before(spec["name"]),
        )

    def _restarts_before(self, name: str) -> int:
        """How often the container had been started before this node program took it over."""
        before = self.pod.get("status", {})
        for found in (*before.get("initContainerStatuses", []), *before.get("containerStatuses", [])):
            if found["name"] == name and "waiting" not in found["state"]:
                return int(found["restartCount"]) + 1
        return 0

    def _files(self, name: str) -> Files:
        metadata = self.pod["metadata"]
        logs = self._host.logs / f"{metadata['namespace']}_{metadata['name']}_{self.uid[:8]}"
        return Files(self._folder / f"{name}.json", logs / name)

    async def _configure(self, spec: Object) -> Launch:
        """What to run for a container, by the state of the API now."""
        image = images.find(self._host.table, spec.get("image", ""))
        if image is None:
            known = ", ".join(sorted(self._host.table)) or "none"
            raise NoSuchImageError(f"no image {spec.get('image')!r} in the table of images (it has: {known})")
        context = await self._context(environment.references(spec))
        known_variables = environment.variables(spec, context)
        folders = volumes.mounts(spec, self._volumes, self._folder / "v")
        command = environment.command_line(spec, known_variables, folders)
        prefix = image.get("prefix", [])
        if not (prefix or command):
            raise ConfigurationError("it names no command; a process node needs one")
        found = self._base_variables(image, folders)
        found |= {k: environment.replace_mounts(v, folders) for k, v in known_variables.items()}
        found |= self._api_access(spec, folders)
        folder = Path(environment.replace_mounts(spec.get("workingDir", ""), folders) or self._folder)
        return Launch([*prefix, *command], found, folder, folders)

    def _base_variables(self, image: images.Image, folders: Mapping[str, str]) -> dict[str, str]:
        path = ":".join([*image.get("path", []), SYSTEM_PATH])
        base = {"HOME": str(self._folder), "HOSTNAME": self.pod["metadata"]["name"], "PATH": path}
        if temporary := folders.get("/tmp"):  # noqa: S108 - the mountPath of a container
            base["TMPDIR"] = temporary
        return {**self._host.variables, **base, **image.get("env", {})}

    def _api_access(self, spec: Object, folders: Mapping[str, str]) -> dict[str, str]:
        """KUBECONFIG for a container that mounts a service account token."""
        mounted = {Path(folder) for folder in folders.values()}
        for token in self._tokens:
            if mounted & {token.file, *token.file.parents} and not token.projection.get("audience"):
                path = self._folder / f"{spec['name']}.kubeconfig"
                namespace = self.pod["metadata"]["namespace"]
                volumes.write_kubeconfig(path, self._host.server, self._host.authority, token.file, namespace)
                return {"KUBECONFIG": str(path)}
        return {}

    async def _context(self, named: set[environment.Reference]) -> Context:
        """The Pod with its addresses, and the ConfigMaps and Secrets that are named."""
        addresses = {"podIP": self._facts.pod_address, "hostIP": self._facts.host_address}
        pod = {**self.pod, "status": {**self.pod.get("status", {}), **addresses}}
        namespace = pod["metadata"]["namespace"]
        found: dict[str, dict[str, Object]] = {CONFIGMAPS.kind: {}, SECRETS.kind: {}}
        for kind, name in sorted(named):
            try:
                item = await self._host.kube.get(SOURCES[kind], name, namespace)
            except ApiError as error:
                raise ConfigurationError(str(error)) from error
            if item is not None:
                found[kind][name] = item
        return Context(pod, self._host.allocatable, found[CONFIGMAPS.kind], found[SECRETS.kind])

    async def _prepare_volumes(self) -> None:
        """Makes all volumes; tries again while something they name is not there yet."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        delay = RETRY_SECONDS
        while True:
            try:
                context = await self._context(volumes.references(self.pod))
                self._volumes = await volumes.with_claims_resolved(
                    self.pod["spec"].get("volumes", []), self._claimed
                )
                self._tokens = [
                    token
                    for volume in self._volumes
                    for token in await volumes.prepare(
                        volume, volumes.folder_of(volume, self._folder / "v"), context, self._token
                    )
                ]
                return
            except (ConfigurationError, ApiError, OSError) as error:
                self._waiting(str(error))
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    async def _claimed(self, name: str) -> Object | None:
        """The PersistentVolume of a claim; None where the claim is not there or not bound."""
        claim = await self._host.kube.get(CLAIMS, name, self.pod["metadata"]["namespace"])
        volume_name = (claim or {}).get("spec", {}).get("volumeName")
        return await self._host.kube.get(PERSISTENT_VOLUMES, volume_name) if volume_name else None

    def _waiting(self, message: str) -> None:
        for container in (*self._init, *self._main):
            container.state = {"waiting": {"reason": "ContainerCreating", "message": message}}
        self._dirty.set()

    async def _token(self, projection: Object) -> str:
        """A token of the Pod's service account that ends with the Pod."""
        metadata = self.pod["metadata"]
        spec: Object = {
            "expirationSeconds": projection.get("expirationSeconds", volumes.TOKEN_SECONDS),
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": self.uid},
        }
        if audience := projection.get("audience"):
            spec["audiences"] = [audience]
        account = self.pod["spec"].get("serviceAccountName", "default")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": account, "namespace": metadata["namespace"]},
            "spec": spec,
        }
        try:
            answer = await self._host.kube.create(SERVICE_ACCOUNTS, request, "token")
        except ApiError as error:
            raise ConfigurationError(f"no token of service account {account!r}: {error}") from error
        return str(answer["status"]["token"])

    async def _renew_tokens(self) -> None:
        if not self._tokens:
            return
        while True:
            await asyncio.sleep(min(token.renew_after_seconds for token in self._tokens))
            for token in self._tokens:
                await self._renew(token)

    async def _renew(self, token: volumes.Token) -> None:
        while True:
            try:
                volumes.write(token.file, (await self._token(token.projection)).encode())
                return
            except ConfigurationError as error:
                log.warning("%s: %s", self._key, error)
                await asyncio.sleep(LONGEST_RETRY_SECONDS)

    def _status(self) -> Object:
        return status(self.pod, self._facts, self._init, self._main, self._written, _now())

    async def _write_status(self) -> None:
        """Writes the status at once whenever it has changed, and only then."""
        delay = RETRY_SECONDS
        while not self._vanished:
            await self._dirty.wait()
            self._dirty.clear()
            wanted = self._status()
            if wanted == self._written:
                continue
            try:
                await self._apply_status(wanted)
                self._written, delay = wanted, RETRY_SECONDS
            except ApiError as error:
                if error.status in (404, 409):
                    return  # gone, or another Pod of that name: the watch will say so
                log.warning("%s: status not written: %s", self._key, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)
                self._dirty.set()

    async def _apply_status(self, wanted: Object) -> None:
        metadata = self.pod["metadata"]
        body = {
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": self.uid},
            "status": wanted,
        }
        await self._host.kube.apply(PODS, body, field_manager=FIELD_MANAGER, subresource="status")

    async def _flush(self, writing: asyncio.Task[None]) -> None:
        """Lets the last status reach the API server, for a bounded time."""
        deadline = time.monotonic() + LONGEST_RETRY_SECONDS
        while not writing.done() and self._status() != self._written and time.monotonic() < deadline:
            self._dirty.set()
            await asyncio.sleep(0.01)

    async def _delete(self) -> None:
        metadata = self.pod["metadata"]
        while not self._vanished:
            with suppress(ApiError):
                await self._host.kube.delete(
                    PODS, metadata["name"], metadata["namespace"], uid=self.uid, grace_seconds=0
                )
                return
            await asyncio.sleep(RETRY_SECONDS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
