"""The host: carries out what `reconcile.step` decides, and knows of each placement how it stands."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from prometheus_client import Histogram

from lull.api.host import HostModel, HostModelStatus
from lull.api.quantities import format_bytes, parse_bytes
from lull.api.reasons import Reason
from lull_runtime.agent.activity import Activity
from lull_runtime.agent.journal import Entry, Journal
from lull_runtime.agent.meter import Meter
from lull_runtime.agent.metering import Metering
from lull_runtime.agent.placement import IDLE_AFTER_SECONDS, Placement, mebibytes
from lull_runtime.agent.reconcile import Action, Local, Phase, step
from lull_runtime.agent.refusals import DIED, refusal
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.store import Model, Signers, Store
from lull_runtime.agent.triton import Triton, TritonDownError, TritonError, TritonTimeoutError, Usage
from lull_runtime.agent.validation import has_died, validate
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import plain
from lull_runtime.measure.memory import stub_bytes

log = logging.getLogger(__name__)

_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
LOADS = Histogram("lull_agent_load_seconds", "Triton's loads.", buckets=_BUCKETS_SECONDS, registry=None)
FETCHES = Histogram(
    "lull_agent_fetch_seconds", "Fetches of artifacts.", buckets=_BUCKETS_SECONDS, registry=None
)

_CRASHES = 2
"""Triton goes down this often while it loads a model: then it is the model's fault."""
_GONE_POLL_SECONDS = 0.02
_UNLOAD_AGAIN_SECONDS = 5.0
_DEAD_SECONDS = 0.5
_TAKE_OUT_SECONDS = 120.0
"""Requests in flight are answered before a model is gone; one that is not by then is stuck."""
_STUCK = (
    f"Triton has not unloaded it in {_TAKE_OUT_SECONDS:g} s; its memory stays counted until this host is "
    "replaced"
)
_DIED = (
    "its process died while it answered requests, which Triton does not notice: it crashed, or took more "
    "memory than its container has; requests to it failed until this was seen"
)
_DOWN_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """What this host gives one model.

    Attributes:
        load_seconds: how long Triton may take to load it.
        memory_bytes: how much it may need; None where the pool does not say.
    """

    load_seconds: float = 120.0
    memory_bytes: int | None = None


class Reporter(Protocol):
    """Tells others how the host stands."""

    def notify(self, urgent: bool) -> None:
        """The status changed; `urgent` when somebody waits for it."""

    async def told(self) -> None:
        """Return once what is true at the call was told, or could not be in good time."""


class Host:
    """What one Triton holds. All of it runs on one event loop; nothing here blocks it."""

    def __init__(
        self,
        triton: Triton,
        store: Store,
        repository: Repository,
        journal: Journal,
        limits: Limits,
        meter: Meter,
        reporter: Reporter,
    ) -> None:
        self._triton = triton
        self._store = store
        self._repository = repository
        repository.keep_only(journal.entries)
        self._journal = journal
        self._limits = limits
        self._reporter = reporter
        self._on_change = reporter.notify
        self._desired: dict[str, HostModel] = {}
        self._synced = False
        self._index: dict[str, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._evicting: set[str] = set()
        self._dead: set[str] = set()
        """Names of models whose process is known to be gone."""
        self._poll_now = asyncio.Event()
        self.placements: dict[str, Placement] = {}
        self.metering = Metering(triton, meter, self.placements)

    @property
    def triton_up(self) -> bool:
        """Whether Triton answers."""
        return self._index is not None

    def status(self) -> list[HostModelStatus]:
        """How each placement stands, in the order of their ids."""
        return [self.placements[key].status() for key in sorted(self.placements)]

    def names(self) -> dict[str, str]:
        """The models' names on the wire, by placement."""
        return {key: placement.want.name for key, placement in self.placements.items()}

    def digests(self) -> list[str]:
        """What must stay on disk."""
        return [digest for p in self.placements.values() if (digest := p.digest)]

    def set_desired(self, models: Sequence[HostModel], told: Sequence[HostModelStatus] = ()) -> None:
        """Take in the ModelHost's spec, and start at once on what it changes.

        Args:
            models: what is wanted.
            told: how things stood by the last status that was written.
        """
        self._desired = {model.id: model for model in models}
        if not self._synced:
            self._take_over_departed(told)
        self._synced = True
        self.metering.keep_only(set(self._desired))
        for model in models:
            known = self.placements.get(model.id)
            if known is not None:
                self._update(known, model)
        self._reconcile()
        self._poll_now.set()  # a shorter idle time takes effect now

    async def run(self) -> None:
        """Follow Triton until cancelled: notice when it goes and comes, and what is used."""
        watching = asyncio.create_task(self._watch_connection())
        try:
            while True:
                self._poll_now.clear()
                await self._poll()
                try:
                    async with asyncio.timeout(self._poll_seconds()):
                        await self._poll_now.wait()
                except TimeoutError:
                    pass
        finally:
            self._synced = False  # nothing new is started while the tasks end
            for task in (watching, *self._tasks):
                task.cancel()

    def _take_over_departed(self, told: Sequence[HostModelStatus]) -> None:
        """What was let go of while no agent lived leaves as others do, with its last totals told."""
        names = {entry.placement: name for name, entry in self._journal.entries.items()}
        for status in told:
            if status.id in names and status.id not in self._desired.keys() | self.placements.keys():
                name = names[status.id]
                want = HostModel(
                    id=status.id,
                    service=status.service,
                    name=name,
                    revision=status.revision,
                    uri="",
                    state="Draining",
                )
                memory_bytes = self._journal.entries[name].memory_bytes
                self.placements[status.id] = Placement(
                    want, Phase.READY, held=True, memory_bytes=memory_bytes
                )

    def _update(self, known: Placement, model: HostModel) -> None:
        routed_again = model.epoch > known.want.epoch
        known.want = model
        if known.short and known.phase is Phase.FETCHING:
            self._admit(known)
        if routed_again and known.phase is Phase.READY:
            was_idle = known.activity.idle_since is not None
            known.activity.restart(time.time())
            if was_idle:
                self._on_change(True)

    # ── Decide and act ──

    def _reconcile(self) -> None:
        """Act until there is nothing to do at once; what takes time comes back here when it ends."""
        if not self._synced:  # know nothing, unload nothing
            return
        while actions := self._step():
            for action in actions:
                self._act(action)

    def _step(self) -> list[Action]:
        actions = step(
            {key: model.name for key, model in self._desired.items()},
            {key: Local(p.want.name, p.phase, p.held, p.stuck) for key, p in self.placements.items()},
            self._index,
            {name: entry.placement for name, entry in self._journal.entries.items()},
            {key for key, model in self._desired.items() if model.state == "Resident"},
        )
        return [a for a in actions if not (a.verb == "evict" and a.target in self._evicting)]

    def _act(self, action: Action) -> None:
        if action.verb == "evict":
            self._evicting.add(action.target)
            self._spawn(self._evict(action.target))
            return
        if action.verb in ("fetch", "adopt"):
            placement = self.placements.setdefault(action.target, Placement(self._desired[action.target]))
        else:
            placement = self.placements[action.target]
        {
            "fetch": self._start_fetch,
            "adopt": self._adopt,
            "load": self._start_load,
            "unload": self._start_unload,
            "forget": self._forget,
        }[action.verb](placement)

    def _start_fetch(self, placement: Placement) -> None:
        """Open the model if it is here (no detour on a wake), else fetch it."""
        want = placement.want
        digest = placement.digest
        placement.rules = self._store.rules
        try:
            if digest is None:
                raise ModelError(
                    Reason.DIGEST_MISMATCH, f"{plain(want.uri)}: there is no digest, here or in the URI"
                )
            signers = self._store.check(want.uri, placement.namespace)
            if self._store.is_ready(digest, signers):
                self._open(placement, digest, signers)
                return
        except ModelError as error:
            self._fail(placement, error.reason, error.message)
            return
        except Exception as error:  # noqa: BLE001  whatever it is, only this placement has it
            self._fail(placement, Reason.LOAD_FAILED, _unforeseen(placement, error))
            return
        placement.task = self._spawn(
            self._guarded(placement, partial(self._fetch, placement, digest, signers))
        )
        self._on_change(False)

    def _adopt(self, placement: Placement) -> None:
        """Take over a model that Triton holds for this very placement already."""
        entry = self._journal.entries[placement.want.name]
        if placement.task is not None:
            placement.task.cancel()
        placement.held = True
        placement.code = entry.code
        placement.memory_bytes = entry.memory_bytes
        placement.load_seconds = entry.load_seconds
        placement.activity = Activity()
        self._become_ready(placement)

    def _start_load(self, placement: Placement) -> None:
        if placement.rules != self._store.rules:  # whoever withdraws trust means the next load already
            placement.phase = Phase.FETCHING
            self._start_fetch(placement)
            return
        placement.phase = Phase.LOADING
        placement.held = True
        if placement.model is None:
            raise RuntimeError(f"{placement.want.id} waits for its load without having been opened")
        placement.task = self._spawn(
            self._guarded(placement, partial(self._load, placement, placement.model))
        )
        self._on_change(False)

    def _start_unload(self, placement: Placement) -> None:
        if placement.task is not None:
            placement.task.cancel()  # it may be unloading too, and would go on to unload a successor
        placement.phase = Phase.UNLOADING
        placement.reason = placement.message = None
        placement.task = self._spawn(self._guarded(placement, partial(self._unload, placement)))
        self._on_change(False)

    def _forget(self, placement: Placement) -> None:
        if placement.task is not None:
            placement.task.cancel()
        del self.placements[placement.want.id]
        self._store.let_go()
        self.metering.keep_only(set(self._desired))
        self._drop(placement.want.name)
        self._on_change(True)

    # ── What takes time ──

    async def _guarded(self, placement: Placement, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work; what nobody foresaw fails this placement, which would be on its way for ever else."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  whatever it is, only this placement has it
            await self._fail_and_take_out(placement, Reason.LOAD_FAILED, _unforeseen(placement, error))

    async def _fetch(self, placement: Placement, digest: str, signers: Signers) -> None:
        try:
            with FETCHES.time():
                await self._store.get(placement.want.uri, digest, signers)
            self._open(placement, digest, signers)
        except ModelError as error:
            self._fail(placement, error.reason, error.message)
        except OSError as error:
            self._fail(placement, Reason.LOAD_FAILED, f"this host cannot keep the artifact: {error}")

    def _open(self, placement: Placement, digest: str, signers: Signers) -> None:
        want = placement.want
        model = self._store.open(digest, want.format, want.name, signers)
        placement.model = model
        placement.code = model.code
        if model.artifact is not None:
            placement.memory_bytes = model.artifact.card.memory_bytes
        elif want.memory:
            placement.memory_bytes = parse_bytes(want.memory)
        most = self._limits.memory_bytes
        if most is not None and (placement.memory_bytes or 0) > most:
            raise ModelError(
                Reason.TOO_LARGE,
                f"it needs about {format_bytes(placement.memory_bytes or 0)}, and a host of this pool has "
                f"{format_bytes(most)}: use a pool with more memory",
            )
        self._admit(placement)

    def _admit(self, placement: Placement) -> None:
        """Let a model be loaded once its reservation covers its need, lest its host be over-committed.

        Until then it says what it needs; the controller raises the reservation, or places it elsewhere.
        """
        reserved, was_short = placement.want.memory, placement.short
        need = mebibytes(placement.memory_bytes or 0)
        placement.short = reserved is not None and need * 2**20 > parse_bytes(reserved)
        if placement.short:
            placement.message = (
                f"it needs {need}Mi, more than is reserved for it; it waits for that much room"
            )
            self._on_change(True)
            return
        if was_short:
            placement.message = None
        placement.phase = Phase.WAITING
        self._on_change(False)  # its load may be far off: Triton may be down, or load another

    async def _load(self, placement: Placement, model: Model) -> None:
        name = placement.want.name
        try:
            self._journal.drop(name)
            await self._load_into_triton(placement, model)
            own = await validate(self._triton, name, model, placement.latency_seconds)
        except TritonDownError:
            self._crashed(placement)
        except TritonTimeoutError:
            self._timed_out(placement)
        except ModelError as error:
            if DIED in error.message:
                self._dead.add(name)
            await self._fail_and_take_out(placement, error.reason, error.message)
        else:
            if placement.want.id not in self._desired:
                # Maybe nobody was told of it, and its room given away: it is out before the next load.
                await self._unload(placement)
                return
            placement.activity = Activity(own)
            self.metering.loaded(placement.want.id, own)
            self._become_ready(placement)
            await self._note(placement)
            await self._measure(placement)

    async def _load_into_triton(self, placement: Placement, model: Model) -> None:
        """Lay a model out and have Triton load it; it holds nothing of one that it refuses."""
        name = placement.want.name
        try:
            self._dead.discard(name)
            if not self._repository.has(name, model):
                await asyncio.to_thread(self._repository.lay, name, model)
            started = time.perf_counter()
            await self._triton.load(name, self._limits.load_seconds)
        except TritonError as error:
            placement.held = False
            raise refusal(str(error)) from error
        except OSError as error:  # the directory could not be laid out
            placement.held = False
            raise ModelError(Reason.LOAD_FAILED, str(error)) from error
        placement.load_seconds = time.perf_counter() - started
        LOADS.observe(placement.load_seconds)
        if self._index is not None:
            self._index[name] = "READY"

    def _become_ready(self, placement: Placement) -> None:
        placement.phase = Phase.READY
        placement.reason = placement.message = None
        placement.crashes = 0
        placement.activity.restart(time.time())
        self._on_change(True)

    def _crashed(self, placement: Placement) -> None:
        """Triton went down while it loaded this: it may be the model's fault."""
        placement.held = False
        placement.crashes += 1
        if placement.crashes >= _CRASHES:
            self._fail(placement, Reason.LOAD_FAILED, "Triton went down each time it loaded it")
        else:
            placement.phase = Phase.WAITING
        self._lost()

    def _timed_out(self, placement: Placement) -> None:
        if self._index is not None:
            self._index[placement.want.name] = "LOADING"
        self._fail(
            placement,
            Reason.LOAD_TIMEOUT,
            f"Triton has not loaded it in {self._limits.load_seconds:g} s and goes on trying; its memory "
            "stays counted until this host is replaced",
        )

    async def _unload(self, placement: Placement) -> None:
        self._journal.drop(placement.want.name)
        await self.metering.close(placement.want.id)
        self._on_change(True)
        gone, _ = await asyncio.gather(self._take_out(placement.want.name), self._reporter.told())
        placement.task = None
        if not gone:
            placement.stuck = True
            self._fail(placement, Reason.LOAD_TIMEOUT, _STUCK)
            return
        placement.held = False
        self._forget(placement)

    async def _evict(self, name: str) -> None:
        log.info("unloading %s, which nobody wants", name)
        try:
            self._journal.drop(name)
            await self._take_out(name)
            self._drop(name)
        finally:
            self._evicting.discard(name)

    async def _fail_and_take_out(self, placement: Placement, reason: Reason, message: str) -> None:
        self._fail(placement, reason, message)
        if placement.held and await self._take_out(placement.want.name):
            placement.held = False
            self._on_change(True)

    async def _take_out(self, name: str) -> bool:
        """Unload a model and wait until Triton says that it is gone: until its memory is free.

        Triton waits for ever for a process that died, unless the model is loaded anew meanwhile.

        Returns:
            False where it is not gone in good time; nothing but Triton's end helps then.
        """
        deadline = time.monotonic() + _TAKE_OUT_SECONDS
        while time.monotonic() < deadline:
            try:
                await self._triton.unload(name)
                if await self._is_gone(name, _DEAD_SECONDS if name in self._dead else _UNLOAD_AGAIN_SECONDS):
                    break
                if name in self._dead or await self._lost_its_stubs(name):
                    await self._triton.load(name, self._limits.load_seconds)
                    self._dead.discard(name)
            except TritonDownError:
                self._lost()
                return True
            except (TritonError, TritonTimeoutError) as error:
                log.warning("unloading %s: %s", name, error)
                await asyncio.sleep(_UNLOAD_AGAIN_SECONDS)
        else:
            return False
        self._dead.discard(name)
        if self._index is not None:
            self._index[name] = ""
        return True

    async def _lost_its_stubs(self, name: str) -> bool:
        """Whether the processes of a model were seen once, and are not there any more."""
        if not any(p.want.name == name and p.stubs for p in self.placements.values()):
            return False
        return await asyncio.to_thread(stub_bytes, self._repository.directory(name)) is None

    async def _examine(self, placement: Placement) -> None:
        """Look whether a model that only fails has lost its process, and take it out if so."""
        name = placement.want.name
        try:
            died = await self._lost_its_stubs(name) or (
                not placement.stubs and await has_died(self._triton, name)
            )
        except TritonDownError:
            self._lost()
            return
        if died and placement.phase is Phase.READY:
            self._dead.add(name)
            self._journal.drop(name)
            give_up = partial(self._fail_and_take_out, placement, Reason.LOAD_FAILED, _DIED)
            placement.task = self._spawn(self._guarded(placement, give_up))

    def _drop(self, name: str) -> None:
        """Remove the directory of a model that is out, unless another of its name is to come."""
        if not any(p.want.name == name for p in self.placements.values()):
            self._repository.drop(name)

    async def _is_gone(self, name: str, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if not (await self._triton.index()).get(name):
                return True
            await asyncio.sleep(_GONE_POLL_SECONDS)
        return False

    async def _measure(self, placement: Placement) -> None:
        """Measure a ready model's memory where its processes can be seen; else the estimate stands."""
        directory = self._repository.directory(placement.want.name)
        measured_bytes = await asyncio.to_thread(stub_bytes, directory)
        if measured_bytes is None or placement.phase is not Phase.READY:
            return
        placement.stubs = True
        before = placement.memory_bytes or 0
        if abs(measured_bytes - before) > before / 20:
            placement.memory_bytes = measured_bytes
            await self._note(placement)
            self._on_change(False)

    # ── Triton's comings and goings ──

    async def _poll(self) -> None:
        try:
            if self._index is None:
                if not await self._triton.live():
                    return
                self._index = await self._triton.index()
                self._reconcile()
                self.metering.came()  # its watts are told with it
                self._on_change(True)
            ready = [p for p in self.placements.values() if p.phase is Phase.READY]
            usage = await self.metering.look()
            self._observe(ready, usage)
            missing = any(p.want.name not in usage for p in ready)
            if missing or not set(self._index.values()) <= {"", "READY"}:
                await self._look_again(ready)
        except TritonDownError:
            self._lost()
        except (TritonError, TritonTimeoutError) as error:
            log.warning("Triton's statistics: %s", error)

    def _poll_seconds(self) -> float:
        if self._index is None:
            return _DOWN_POLL_SECONDS
        shortest = min((p.idle_after_seconds for p in self.placements.values()), default=IDLE_AFTER_SECONDS)
        return max(0.1, min(1.0, shortest / 4))

    def _observe(self, ready: Sequence[Placement], usage: Mapping[str, Usage]) -> None:
        now = time.time()
        for placement in ready:
            totals = usage.get(placement.want.name)
            if totals is None or placement.phase is not Phase.READY:
                continue
            if placement.activity.observe(totals, now, placement.idle_after_seconds):
                self._on_change(True)
            if placement.pulse.is_gone(totals.totals, time.monotonic()):
                self._spawn(self._examine(placement))

    async def _look_again(self, ready: Sequence[Placement]) -> None:
        """A model comes or goes, Triton was restarted between two polls, or somebody unloaded one."""
        self._index = await self._triton.index()
        for placement in ready:
            if placement.phase is Phase.READY and self._index.get(placement.want.name) != "READY":
                self._load_again(placement)
        for placement in self.placements.values():
            if placement.stuck and not self._index.get(placement.want.name):
                placement.stuck = placement.held = False
        self._reconcile()

    def _load_again(self, placement: Placement) -> None:
        placement.held = False
        placement.message = "Triton lost it; it is loaded again once Triton answers"
        placement.phase = Phase.FETCHING
        self._start_fetch(placement)
        self._on_change(True)

    def _lost(self) -> None:
        """Triton went down, and with it all that it held: load it again once it is back."""
        self._index = None
        for placement in self.placements.values():
            if placement.phase is Phase.READY:
                self._load_again(placement)
            elif placement.phase is Phase.FAILED:
                placement.held = placement.stuck = False
        self.metering.went()
        self._on_change(True)
        self._poll_now.set()

    async def _watch_connection(self) -> None:
        """Have a lost connection looked at now instead of at the next poll."""
        while True:
            await self._triton.disconnected()
            self._poll_now.set()

    # ── Helpers ──

    def _fail(self, placement: Placement, reason: Reason, message: str) -> None:
        log.warning("%s: %s: %s", placement.want.service, reason, message)
        placement.phase = Phase.FAILED
        placement.reason = reason.value
        placement.message = message
        self._on_change(True)

    async def _note(self, placement: Placement) -> None:
        """Have a ready model outlive this agent: at once, and what is counted of it once the disk has it."""
        self._journal.put(
            placement.want.name,
            Entry(
                placement.want.id,
                placement.digest or "",
                placement.load_seconds or 0.0,
                placement.memory_bytes,
                bool(placement.code),
            ),
        )
        await self.metering.keep()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the host failed", exc_info=error)
        self._reconcile()


def _unforeseen(placement: Placement, error: Exception) -> str:
    log.error("%s: nobody foresaw this", placement.want.id, exc_info=error)
    return f"the agent failed at it ({error!r}): see its log, and report it"
