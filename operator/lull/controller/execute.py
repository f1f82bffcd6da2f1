"""Writes what was decided, each host's changes one at a time, and never on a state that was not seen.

A write whose outcome is unknown is tried again until it is known; meanwhile it counts as written.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import TypeVar

from lull.api.names import API_VERSION, HOSTS_NAMESPACE, LABEL_POOL, SYSTEM_NAMESPACE
from lull.controller.hostpod import host_pod
from lull.controller.view import View
from lull.controller.wire import Object, artifact_to, gateway_from, placement_to, placements_of, service_of
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, PODS, ApiError, Kube
from lull.kube.client import backoff
from lull.policy import (
    Change,
    CreateHost,
    CreatePod,
    DeleteHost,
    Host,
    Placement,
    Pod,
    SetModels,
    Stage,
    Vacate,
)
from lull.policy.fence import fenced

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 7
"""How often a write without a definite answer is tried (about 13 s) before a fresh decision is asked for."""
OUTAGE_REST_SECONDS = 1.0
"""How long a host rests while the API server gives no definite answer at all."""
FIRST_REST_SECONDS = 5.0
"""How long it rests after a refusal; each further one doubles that …"""
LONGEST_REST_SECONDS = 300.0
"""… up to this."""
LONGEST_REASON = 1024
"""As many characters as the API takes for a reason."""
_LEAVE = "leave/"


class StaleError(Exception):
    """The decision was made on a state that is not any more; decide again."""


class ForbiddenError(Exception):
    """A host may not be let go by choice: a PodDisruptionBudget forbids it, or nobody could tell."""


class Executor:
    """Applies changes, one write a host at a time; further ones are left to the next decision."""

    def __init__(
        self,
        kube: Kube,
        view: View,
        *,
        image: str,
        clock: Callable[[], float],
        on_done: Callable[[], None],
        on_written: Callable[[Change], None] = lambda _change: None,
        on_forbidden: Callable[[str, str], None] = lambda _host, _why: None,
    ) -> None:
        self._kube = kube
        self._view = view
        self._image = image
        self._clock = clock
        self._on_done = on_done
        self._on_written = on_written
        self._on_forbidden = on_forbidden
        self._gateways = FreshGateways(kube)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, tuple[int, float]] = {}
        self._overtaken: set[str] = set()

    @property
    def pending(self) -> int:
        """Writes under way."""
        return len(self._tasks)

    def rest_until(self) -> float | None:
        """Return when the next host or pool that was refused may be written again."""
        now = self._clock()
        return min((until for _, until in self._rests.values() if until > now), default=None)

    def end_rests(self) -> None:
        """Try at once what was refused, as somebody has changed a pool; budgets hang on none."""
        self._rests = {who: rest for who, rest in self._rests.items() if who.startswith(_LEAVE)}

    def ask_again(self) -> None:
        """Ask whether those hosts may go by now that had to be kept, and have rested since."""
        for name in self._view.kept - self._tasks.keys():
            leave = _leave_rest(name)
            if leave not in self._tasks and not self._rests_now(leave):
                self._tasks[leave] = asyncio.get_running_loop().create_task(self._ask_once_more(name))

    def submit(self, change: Change) -> None:
        """Assume a change and start to write it, unless its host is being written, or who is asked rests."""
        name = change.host
        if name in self._tasks and isinstance(change, SetModels):
            self._overtaken.add(name)
        if name in self._tasks or any(self._rests_now(who) for who in self._asked(change)):
            return
        self._assume(change)
        self._tasks[name] = asyncio.get_running_loop().create_task(self._write(change))

    async def close(self) -> None:
        """Stop writing."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _assume(self, change: Change) -> None:
        host = self._view.hosts.get(change.host)
        if isinstance(change, CreateHost):
            self._view.assume(change.host, Host(change.host, change.pool, change.placements))
        elif isinstance(change, DeleteHost) and not self._serves(change.host):
            self._view.assume(change.host, None)
        elif isinstance(change, SetModels) and host:
            self._view.assume(change.host, replace(host, placements=change.after))
        elif host:
            self._view.assume(change.host, host)

    async def _write(self, change: Change) -> None:
        name = change.host
        try:
            await self._apply(change)
            self._rests.pop(name, None)
        except StaleError as error:
            log.info("%s changed under a decision: %s", name, error)
        except ForbiddenError as error:
            self._forbidden(name, str(error))
        except ApiError as error:
            self._rest(change, definite=not _indefinite(error))
            log.warning("host %s: %s", name, error)
        except Exception:  # nothing may be tried again without a rest
            self._rest(change, definite=True)
            log.exception("host %s", name)
        finally:
            self._tasks.pop(name, None)
            self._overtaken.discard(name)
            self._view.settle(name)
            if name not in self._view.hosts:
                self._rests.pop(name, None)
                self._rests.pop(_leave_rest(name), None)
            self._on_done()

    def _rests_now(self, who: str) -> bool:
        _, until = self._rests.get(who, (0, 0.0))
        return until > self._clock()

    def _rest(self, change: Change, *, definite: bool) -> None:
        """Let a host rest; one that could not even be made comes back under a new name: its pool rests."""
        who = change.host
        if isinstance(change, CreateHost) and who not in self._view.raw[MODELHOSTS]:
            who = _pool_rest(change.pool)
        self._let_rest(who, definite=definite)

    def _let_rest(self, who: str, *, definite: bool) -> None:
        count, _ = self._rests.get(who, (0, 0.0))
        seconds = OUTAGE_REST_SECONDS
        if definite:
            seconds = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** min(count, 16))
        self._rests[who] = (count + definite, self._clock() + seconds)

    def _forbidden(self, name: str, why: str) -> None:
        """Keep a host for a while that may not go; its models are written as ever."""
        if _leave_rest(name) not in self._rests:
            self._on_forbidden(name, why)
        self._let_rest(_leave_rest(name), definite=True)
        self._view.keep(name, kept=True)
        log.info("host %s is kept: %s", name, why)

    async def _ask_once_more(self, name: str) -> None:
        """Let the next decision have a host go again as soon as nothing forbids it any more."""
        try:
            await self._ask_budgets(name)
            self._rests.pop(_leave_rest(name), None)
            self._view.keep(name, kept=False)
        except ForbiddenError as error:
            self._forbidden(name, str(error))
        except StaleError as error:
            log.info("%s changed under a question: %s", name, error)
        finally:
            self._tasks.pop(_leave_rest(name), None)
            self._on_done()

    def _asked(self, change: Change) -> tuple[str, ...]:
        """Return who must not rest for a change to be written."""
        if isinstance(change, CreateHost):
            return change.host, _pool_rest(change.pool)
        if _leaves(change) and self._serves(change.host):
            return change.host, _leave_rest(change.host)
        return (change.host,)

    def _serves(self, name: str) -> bool:
        """Tell whether a host can be used: to let go of it is a choice, which budgets may forbid."""
        host = self._view.hosts.get(name)
        if host is None or host.pool not in self._view.raw[MODELPOOLS]:
            return False
        return host.pod is Pod.RUNNING and not host.tainted

    async def _apply(self, change: Change) -> None:
        match change:
            case SetModels():
                await self._set_models(change)
            case CreateHost():
                await self._create_host(change)
            case CreatePod():
                await self._create_pod(change.host)
            case DeleteHost():
                await self._delete_host(change)
            case Vacate():
                await self._vacate(change)
            case Stage():
                await self._stage(change)

    async def _set_models(self, change: SetModels) -> None:
        generation = self._seen(change.host, change.before)["metadata"]["generation"]
        if change.proofs:
            await self._prove(change)
        models = self._written(change.after)
        answer = await self._set_spec(change.host, generation, "models", models)
        self._on_written(change)
        self._view.update(MODELHOSTS, answer)

    def _written(self, placements: Iterable[Placement]) -> list[Object]:
        return [placement_to(p, self._view.services.get(service_of(p.service))) for p in placements]

    async def _vacate(self, change: Vacate) -> None:
        generation = self._seen(change.host)["metadata"]["generation"]
        if change.reason:
            await self._ask_budgets(change.host)
            host = self._view.hosts[change.host]
            self._view.assume(change.host, replace(host, cordoned=True, vacated=True))
        log.info("vacate host %s: %s", change.host, change.reason or "no more")
        reason = change.reason[:LONGEST_REASON] or None
        answer = await self._set_spec(change.host, generation, "vacate", reason)
        self._on_written(change)
        self._view.update(MODELHOSTS, answer)

    async def _stage(self, change: Stage) -> None:
        generation = self._seen(change.host)["metadata"]["generation"]
        listed = [artifact_to(artifact) for artifact in change.artifacts]
        answer = await self._set_spec(change.host, generation, "stage", listed)
        self._view.update(MODELHOSTS, answer)

    async def _set_spec(self, name: str, generation: int, field: str, value: object) -> Object:
        """Set one field of a host's spec, or take it out (None), if it is still of this generation."""
        path = f"/spec/{field}"
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/generation", "value": generation},
            {"op": "remove", "path": path} if value is None else {"op": "add", "path": path, "value": value},
        ]
        try:
            return await _insist(lambda: self._kube.json_patch(MODELHOSTS, name, HOSTS_NAMESPACE, operations))
        except ApiError as error:
            await self._refetch(name, error, generation)
            raise

    async def _prove(self, change: SetModels) -> None:
        """Check the fence on a list of the gateways that was made after the drain was written.

        Raises:
            StaleError: a gateway has not let go; the plan will see that too.
        """
        gateways = await self._gateways.fresh()
        for item in gateways:
            self._view.update(MODELGATEWAYS, item)
        read = [gateway_from(item) for item in gateways if not self._view.gateway_ended(item)]
        open_ = [p.id for p in change.proofs if not fenced(p, read)]
        if open_:
            raise StaleError(f"a gateway still routes to {', '.join(open_)}")

    async def _create_host(self, change: CreateHost) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": MODELHOSTS.kind,
            "metadata": {
                "name": change.host,
                "namespace": HOSTS_NAMESPACE,
                "labels": {LABEL_POOL: change.pool},
            },
            "spec": {
                "pool": change.pool,
                "podName": change.host,
                "models": self._written(change.placements),
            },
        }
        try:
            answer = await _insist(lambda: self._kube.create(MODELHOSTS, body))
        except ApiError as error:
            if error.status != 409:  # else an answer of ours was lost: nobody else makes this name
                raise
            found = await _insist(lambda: self._kube.get(MODELHOSTS, change.host, HOSTS_NAMESPACE))
            if found is None:
                raise StaleError("it was deleted at once") from error
            answer = found
        self._rests.pop(_pool_rest(change.pool), None)
        self._on_written(change)
        self._view.offer(MODELHOSTS, answer)
        await self._create_pod(change.host)

    async def _create_pod(self, name: str) -> None:
        host = self._seen(name)
        pool = self._view.raw[MODELPOOLS].get(host["spec"]["pool"])
        if pool is None or self._view.hosts[name].pod is not Pod.MISSING:
            raise StaleError("its pool is gone, or its Pod is there")
        try:
            pod = host_pod(host, pool, self._image)
        except Exception as error:
            self._view.refuse(name, f"its Pod cannot be built; correct spec.template of its pool: {error}")
            raise
        try:
            answer = await _insist(lambda: self._kube.create(PODS, pod))
        except ApiError as error:
            if error.status != 409:
                if error.status:
                    self._view.refuse(name, error.message)
                raise
            found = await _insist(lambda: self._kube.get(PODS, name, HOSTS_NAMESPACE))
            if found is None:
                raise StaleError("its Pod was deleted at once") from error
            answer = found
        self._view.offer(PODS, answer)
        self._view.refuse(name, "")

    async def _delete_host(self, change: DeleteHost) -> None:
        host = self._seen(change.host, change.before)
        metadata = host["metadata"]
        try:
            await self._ask_budgets(change.host)
        except ForbiddenError:
            if host["spec"].get("vacate"):  # since it began a budget came: it may as well be used again
                answer = await self._set_spec(change.host, metadata["generation"], "vacate", None)
                self._view.update(MODELHOSTS, answer)
            raise
        self._view.assume(change.host, None)  # not before: one that is kept may wake somebody meanwhile
        log.info("let host %s go: %s", change.host, change.reason)
        try:
            await _insist(
                lambda: self._kube.delete(
                    MODELHOSTS,
                    change.host,
                    HOSTS_NAMESPACE,
                    uid=metadata["uid"],
                    resource_version=metadata["resourceVersion"],
                    # Its agent writes last totals while its Pod ends: somewhere they must stand.
                    after_dependents=True,
                )
            )
        except ApiError as error:
            await self._refetch(change.host, error, None)
            raise
        self._on_written(change)
        item = await self._kube.get(MODELHOSTS, change.host, HOSTS_NAMESPACE)
        if item is None:
            self._view.forget(MODELHOSTS, change.host)
        else:
            self._view.update(MODELHOSTS, item)

    async def _ask_budgets(self, name: str) -> None:
        """Ask the API server whether a ready Pod may be evicted now, as `kubectl drain` would.

        It says so for this moment only: a disruption that comes between this and the write is not seen. It is
        asked once: the host could be woken on meanwhile, and to go it has time.

        Raises:
            ForbiddenError: a PodDisruptionBudget forbids it, or the answer was another error.
            StaleError: its models were to change meanwhile, as for a wake.
        """
        if not self._serves(name):
            return
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": HOSTS_NAMESPACE},
        }
        try:
            await self._kube.create(PODS, eviction, "eviction", dry_run=True)
        except ApiError as error:
            if error.status != 404:
                raise ForbiddenError(
                    _budget(error) or f"nobody could tell whether it may go: {error}"
                ) from error
        if name in self._overtaken:
            raise StaleError("its models were to change while the budgets were asked")

    def _seen(self, name: str, before: tuple[Placement, ...] | None = None) -> Object:
        """Return a host as the API last showed it.

        Raises:
            StaleError: it is gone, or it does not hold any more what the decision was made on.
        """
        host = self._view.raw[MODELHOSTS].get(name)
        if host is None:
            raise StaleError("it is gone")
        # Whose they are may have changed, as when a candidate is promoted: what the host holds has not.
        if before is not None and placements_of(host) != tuple(
            replace(p, service=service_of(p.service)) for p in before
        ):
            raise StaleError("it should hold other models by now")
        return host

    async def _refetch(self, name: str, error: ApiError, generation: int | None) -> None:
        """Look at a host again after a refused write.

        Raises:
            StaleError: it had changed; with an unchanged host the refusal itself is the news.
        """
        if error.status not in (404, 409, 422):
            return
        found = await _insist(lambda: self._kube.get(MODELHOSTS, name, HOSTS_NAMESPACE))
        if found is None:
            self._view.forget(MODELHOSTS, name)
            raise StaleError("it is gone") from error
        self._view.update(MODELHOSTS, found)
        if generation is None or found["metadata"]["generation"] != generation:
            raise StaleError("somebody wrote before") from error


class FreshGateways:
    """Lists the gateways, each list begun after it was asked for and shared by who asked before."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[list[Object]] | None = None

    async def fresh(self) -> list[Object]:
        """Return all gateways as they are at some moment after this call began."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._list())
        return await asyncio.shield(self._next)

    async def _list(self) -> list[Object]:
        async with self._lock:
            self._next = None
            items, _ = await self._kube.list(MODELGATEWAYS, SYSTEM_NAMESPACE)
            return items


async def _insist(call: Callable[[], Coroutine[None, None, T]]) -> T:
    """Call until there is a definite answer, or often enough."""
    for attempt in range(TRIES):
        try:
            return await call()
        except ApiError as error:
            if attempt == TRIES - 1 or not _indefinite(error):
                raise
            await backoff(attempt)
    raise AssertionError("the last try returns or raises")


def _indefinite(error: ApiError) -> bool:
    """Tell whether an error says nothing about the write itself: no answer, or a server in trouble."""
    return error.status in (0, 429) or error.status >= 500


def _budget(error: ApiError) -> str:
    """Return what a PodDisruptionBudget has against an eviction; empty where an error has another cause."""
    # Of a Pod with two budgets the server says no more than that it cannot tell.
    told = error.message if "PodDisruptionBudget" in error.message else ""
    return error.causes.get("DisruptionBudget", told)


def _pool_rest(pool: str) -> str:
    """Return the key under which a pool rests; a host's is its name, which has no slash."""
    return f"pool/{pool}"


def _leaves(change: Change) -> bool:
    """Tell whether a host is to be let go of, now or once it is empty."""
    return isinstance(change, DeleteHost) or (isinstance(change, Vacate) and bool(change.reason))


def _leave_rest(host: str) -> str:
    """Return the key under which the letting go of a host rests, while it is written in all other ways."""
    return _LEAVE + host
