"""One container as a local process: start, probe, restart with backoff, stop gracefully."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lull.local.node import probes
from lull.local.node.environment import ConfigurationError, Object, replace_mounts
from lull.local.processes import Record

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 30.0
RAN_WELL_SECONDS = 60.0  # after that, the next restart is immediate again
CONFIGURATION_RETRY_SECONDS = 1.0
KILL_SECONDS = 5.0
MESSAGE_BYTES = 2048  # as much as the kubelet takes
START_ERROR = 128  # the exit code of a container whose command could not be started


class NoSuchImageError(ConfigurationError):
    """The table of images has no such one."""


@dataclass(frozen=True)
class Launch:
    """All that a start needs: what to run, with which environment, in which folder.

    `mounts` are the folders that stand in for mountPaths, also in what probes execute.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    mounts: Mapping[str, str]


@dataclass(frozen=True)
class Files:
    """Where a container's process is recorded and where the log of each of its runs goes."""

    record: Path
    logs: Path

    def log(self, run: int) -> Path:
        """The log of the run with this number."""
        return self.logs / f"{run}.log"


class Container:
    """One container of a Pod, from its first start until it has ended for good.

    Attributes:
        state: the API's ContainerState; `last_state` is that of the run before.
        restart_count: how often it has been started again.
        started: its startup probe has passed, or it has none and runs.
        ready: its readiness probe passes, or it has none and has started.
    """

    def __init__(
        self,
        spec: Object,
        *,
        restarts: Callable[[int], bool],
        configure: Callable[[Object], Awaitable[Launch]],
        address: str,
        files: Files,
        on_change: Callable[[], None],
        grace_seconds: float,
        restart_count: int = 0,
    ) -> None:
        """`restarts(exit_code)` is the Pod's policy; `configure` gives what to run at each start."""
        self.spec = spec
        self.name: str = spec["name"]
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restart_count = restart_count
        self.started = False
        self.ready = False
        self.done = asyncio.Event()
        self.has_started = asyncio.Event()
        self._restarts = restarts
        self._configure = configure
        self._address = address
        self._files = files
        self._on_change = on_change
        self._grace_seconds = grace_seconds
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._launch: Launch | None = None
        self._stop_task: asyncio.Task[None] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the run that has ended, None while it waits or runs."""
        ended: Object | None = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    async def run(self) -> None:
        """Runs it, again and again as its policy says, until it has ended for good or is stopped."""
        failures = 0
        try:
            while launch := await self._configured():
                began = time.monotonic()
                code = await self._once(launch)
                if self._stopping.is_set() or not self._restarts(code):
                    return
                failures = 0 if time.monotonic() - began > RAN_WELL_SECONDS else failures
                await self._pause(failures)
                failures += 1
                if self._stopping.is_set():
                    return
                self.restart_count += 1
        finally:
            self.done.set()

    async def stop(self, deadline: float) -> None:
        """Ends it for good: preStop hook, SIGTERM, and SIGKILL at the deadline (of the loop's clock)."""
        self._stopping.set()
        if (process := self._process) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    if hook := self.spec.get("lifecycle", {}).get("preStop"):
                        await probes.problem({**hook, "timeoutSeconds": None}, self._target())
                    _signal(process, signal.SIGTERM)
                    await self.done.wait()
            _signal(process, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await self.done.wait()

    async def _configured(self) -> Launch | None:
        """What to run next; waits while the Pod names things that are not there. None when stopped."""
        while not self._stopping.is_set():
            try:
                self._launch = await self._configure(self.spec)
                return self._launch
            except NoSuchImageError as error:
                self._waits("ErrImagePull", str(error))
            except ConfigurationError as error:
                self._waits("CreateContainerConfigError", str(error))
            await self._stopped_within(CONFIGURATION_RETRY_SECONDS)
        return None

    async def _once(self, launch: Launch) -> int:
        """Runs the process once, to its end, and returns its exit code."""
        began = _now()
        try:
            process = await self._spawn(launch)
        except OSError as error:
            self._terminated(START_ERROR, began, "StartError", f"{launch.command[:1]}: {error}")
            return START_ERROR
        self._process = process
        if self._stopping.is_set():  # it was told to stop while it was being started
            _signal(process, signal.SIGKILL)
        self._changed({"running": {"startedAt": began}})
        probing = asyncio.create_task(self._probe())
        try:
            code = await process.wait()
        finally:
            probing.cancel()
            _signal(process, signal.SIGKILL)  # what it started ends with it
            self._process = None
        code = code if code >= 0 else START_ERROR - code  # as a shell gives a signal's number
        self._terminated(code, began, message=self._last_words() if code else "")
        return code

    def _last_words(self) -> str:
        """The end of the log, where the container asks for it as its termination message."""
        if self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        with self._files.log(self.restart_count).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - MESSAGE_BYTES))
            return log.read().decode(errors="replace")

    async def _spawn(self, launch: Launch) -> asyncio.subprocess.Process:
        log = self._files.log(self.restart_count)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._files.log(self.restart_count - 2).unlink(missing_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                env=launch.environment,
                cwd=launch.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        Record.of(process.pid).save(self._files.record)
        return process

    async def _probe(self) -> None:
        """Runs the postStart hook, follows the startup probe until it passes, then the other two together."""
        target = self._target()
        if (hook := self.spec.get("lifecycle", {}).get("postStart")) and (
            why := await probes.problem({**hook, "timeoutSeconds": None}, target)
        ):
            self._kill(f"postStart {why}")
            return
        if startup := self.spec.get("startupProbe"):
            passed = asyncio.Event()
            following = asyncio.create_task(
                probes.follow(startup, target, lambda good, why: passed.set() if good else self._kill(why))
            )
            try:
                await passed.wait()
            finally:
                following.cancel()
        readiness = self.spec.get("readinessProbe")
        self.started, self.ready = True, readiness is None
        self.has_started.set()
        self._on_change()
        async with asyncio.TaskGroup() as group:
            if readiness:
                group.create_task(probes.follow(readiness, target, self._set_ready))
            if liveness := self.spec.get("livenessProbe"):
                kill = self._kill
                group.create_task(probes.follow(liveness, target, lambda ok, why: None if ok else kill(why)))

    def _set_ready(self, good: bool, _why: str) -> None:
        if self.ready != good:
            self.ready = good
            self._on_change()

    def _kill(self, why: str) -> None:
        """Ends this run because a probe failed; the policy then starts the next one."""
        process = self._process
        if process is None or self._stop_task is not None:
            return
        with self._files.log(self.restart_count).open("a") as log:
            log.write(f"[process node] killed by a probe: {why}\n")

        async def end() -> None:
            _signal(process, signal.SIGTERM)
            await asyncio.sleep(self._grace_seconds)
            _signal(process, signal.SIGKILL)

        self._stop_task = asyncio.create_task(end())

    def _target(self) -> probes.Target:
        launch = self._launch
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports", []) if "name" in port}

        async def execute(command: Sequence[str]) -> int:
            if launch is None:
                return START_ERROR
            words = [replace_mounts(word, launch.mounts) for word in command]
            return await probes.run_command(words, launch.environment, str(launch.folder))

        return probes.Target(self._address, ports, execute)

    async def _pause(self, failures: int) -> None:
        """Waits before a restart: not at all the first time, then doubling."""
        if failures == 0:
            return
        seconds = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 10))
        self._waits("CrashLoopBackOff", f"back-off {seconds:.0f} s restarting failed container {self.name}")
        await self._stopped_within(seconds)

    async def _stopped_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _terminated(self, code: int, began: str, reason: str = "", message: str = "") -> None:
        if self._stop_task is not None:
            self._stop_task.cancel()
            self._stop_task = None
        self.started = self.ready = False
        ended = {"exitCode": code, "startedAt": began, "finishedAt": _now()}
        ended["reason"] = reason or ("Completed" if code == 0 else "Error")
        if message:
            ended["message"] = message
        self._changed({"terminated": ended})

    def _waits(self, reason: str, message: str) -> None:
        self._changed({"waiting": {"reason": reason, "message": message}})

    def _changed(self, state: Object) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = state
        self._on_change()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signals the process and all that is in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
