"""The bytes of one blob in some store, from any of them on."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType


class PassingError(Exception):
    """The store failed in a way that may pass: the same may be asked for again."""


class SlowError(PassingError):
    """The store sends so little that it counts as sending nothing."""


@dataclass
class Stream:
    """The bytes of a blob, from an offset on. Leave it as a context manager to let its connection go.

    Attributes:
        size_bytes: how long the whole blob is, at most; None where the store does not say.
        offset: where the bytes begin: what was asked for, or 0 where the store gives only the whole.
        digest: what the whole must hash to (`sha256:…`).
        chunks: the bytes. Raises PassingError where they break off.
    """

    size_bytes: int | None
    offset: int
    digest: str
    chunks: AsyncIterator[bytes]
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.closing.aclose()
