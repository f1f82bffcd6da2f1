"""A client for the Kubernetes API in plain dicts, each call with a deadline."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from lull.kube.resources import Resource

Object = dict[str, Any]
Observer = Callable[[str, str, int, float], None]
"""Told of every call: its verb, the kind, the HTTP status (0: no answer) and seconds until the answer."""

_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "patch": "PATCH",
    "update": "PUT",
    "delete": "DELETE",
}
PAGE = 500
"""How many objects a list brings at once: the loop has to turn between large answers."""
_CREDENTIALS_SECONDS = 60.0
_MAX_LINE_BYTES = 8 * 2**20


class ApiError(Exception):
    """The API server refused a call, or could not be asked (`status` 0).

    Attributes:
        status: HTTP status; 0 when no answer came.
        reason: the API's own word, such as `Conflict` or `NotFound`.
        causes: what it says in detail, a sentence by word, such as `DisruptionBudget`.
    """

    def __init__(
        self, status: int, reason: str, message: str, causes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(f"{message} ({status} {reason})")
        self.causes = causes
        self.status = status
        self.reason = reason
        self.message = message


def _unobserved(_verb: str, _kind: str, _code: int, _seconds: float) -> None:
    """Tell nobody."""


class Kube:
    """The API server as one set of credentials sees it. Use as an async context manager, or call `close`."""

    def __init__(
        self,
        server: str,
        session: aiohttp.ClientSession,
        timeout_seconds: float,
        observe: Observer,
    ) -> None:
        self._server = server.rstrip("/")
        self._session = session
        self._timeout_seconds = timeout_seconds
        self._observe = observe
        self._authorization: str | None = None
        self._authorization_until = 0.0

    @classmethod
    async def connect(cls, *, timeout_seconds: float = 10.0, observe: Observer = _unobserved) -> Self:
        """Connect with $KUBECONFIG where it is set, else with the Pod's own account.

        Raises:
            kubernetes.aio.config.ConfigException: neither gives credentials.
        """
        configuration = await load_configuration()
        tls = RESTClientObject(configuration).ssl_context
        # A wake after a quiet minute should find a connection open; the server keeps idle ones for longer.
        connector = aiohttp.TCPConnector(limit=64, ssl=tls, keepalive_timeout=75)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=min(10.0, timeout_seconds)),
            read_bufsize=_MAX_LINE_BYTES,
        )
        return cls(configuration.host, session, timeout_seconds, observe)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """Return one object, or None where there is none."""
        try:
            return await self._call("get", resource, resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        keep: Callable[[Object], Object] = lambda item: item,
    ) -> tuple[list[Object], str]:
        """Return all objects of a kind, consistently read, and the resourceVersion to watch from.

        They come in pages, and of each no more stays in memory than what `keep` returns.
        """
        params = _selectors(label_selector, field_selector) | {"limit": str(PAGE)}
        items: list[Object] = []
        while True:
            answer = await self._call("list", resource, resource.path(namespace), params=params)
            items += map(keep, answer["items"])
            following = answer["metadata"].get("continue")
            if not following:
                return items, answer["metadata"]["resourceVersion"]
            params = params | {"continue": following}

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        window_seconds: int = 300,
    ) -> AsyncIterator[Object]:
        """Yield events `{type, object}`, bookmarks included, until the server ends the window.

        Raises:
            ApiError: the server refused; 410 means that the version is too old and a LIST is due.
        """
        params = _selectors(label_selector, field_selector) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(window_seconds),
        }
        # Bookmarks come about once a minute: silence for two of them is a dead connection.
        timeout = aiohttp.ClientTimeout(total=window_seconds + 30, connect=10, sock_read=150)
        path = self._server + resource.path(namespace)
        begun, start = False, time.monotonic()
        try:
            async with self._session.get(
                path, params=params, headers=await self._headers(), timeout=timeout
            ) as response:
                begun = True
                self._observe("watch", resource.kind, response.status, time.monotonic() - start)
                await _raise_for_status(response)
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _error_from_status(event["object"])
                    yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if not begun:
                self._observe("watch", resource.kind, 0, time.monotonic() - start)
            raise ApiError(0, "Disconnected", f"the watch of {resource.plural} broke: {error!r}") from error

    async def create(
        self, resource: Resource, body: Object, subresource: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create an object (its namespace is in its metadata), or only learn whether it would be taken."""
        metadata = body.get("metadata", {})
        name = metadata.get("name") if subresource else None
        path = resource.path(metadata.get("namespace"), name, subresource)
        params = {"dryRun": "All"} if dry_run else None
        return await self._call("create", resource, path, params=params, body=body)

    async def apply(
        self, resource: Resource, body: Object, *, field_manager: str, subresource: str | None = None
    ) -> Object:
        """Apply an object server-side. Name its uid where it must not be resurrected (then 409)."""
        metadata = body["metadata"]
        body = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        return await self._call(
            "patch",
            resource,
            resource.path(metadata.get("namespace"), metadata["name"], subresource),
            params={"fieldManager": field_manager, "force": "true"},
            body=body,
            content_type=_APPLY,
        )

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        body: Object,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Merge `body` into an object (RFC 7386)."""
        path = resource.path(namespace, name, subresource)
        return await self._call("patch", resource, path, body=body, content_type=_MERGE)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        operations: Sequence[Object],
        *,
        subresource: str | None = None,
    ) -> Object:
        """Patch an object (RFC 6902); a `test` that fails answers 422 and changes nothing."""
        path = resource.path(namespace, name, subresource)
        return await self._call("patch", resource, path, body=operations, content_type=_JSON_PATCH)

    async def replace(self, resource: Resource, body: Object, *, subresource: str | None = None) -> Object:
        """Replace an object; 409 when its resourceVersion is not the newest."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._call("update", resource, path, body=body)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        after_dependents: bool = False,
    ) -> bool:
        """Delete an object: only this very one (`uid`), only as it was seen (`resource_version`), or 409.

        `after_dependents`: it stays, marked as being deleted, until what it owns and blocks it is gone.

        Returns:
            False where it was gone already.
        """
        policy = "Foreground" if after_dependents else "Background"
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if uid is not None or resource_version is not None:
            body["preconditions"] = {name: value for name, value in preconditions.items() if value}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call("delete", resource, resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        headers = await self._headers()
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        method, code, start = _METHODS[verb], 0, time.monotonic()
        try:
            async with self._session.request(
                method, self._server + path, params=params, data=data, headers=headers
            ) as response:
                text = await response.read()
                code = response.status
                await _raise_for_status(response)
                answer: Object = json.loads(text)
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path} got no answer: {error!r}") from error
        finally:
            self._observe(verb, resource.kind, code, time.monotonic() - start)

    async def _headers(self) -> dict[str, str]:
        """Return the headers of a call; the token is read again once a minute, as clusters rotate it."""
        now = time.monotonic()
        if now >= self._authorization_until:
            configuration = await load_configuration()
            self._authorization = await configuration.get_api_key_with_prefix("BearerToken")
            self._authorization_until = now + _CREDENTIALS_SECONDS
        headers = {"Accept": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        return headers


async def load_configuration() -> Configuration:
    """Return where the cluster is and who we are: $KUBECONFIG where it is set, else the Pod's own account."""
    configuration = Configuration()
    if named := os.environ.get("KUBECONFIG"):  # as it is now: the library itself read it when it was imported
        await kube_config.load_kube_config(named, client_configuration=configuration, persist_config=False)
    else:
        kube_config.load_incluster_config(client_configuration=configuration)
    return configuration


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in pairs.items() if value}


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text()
    try:
        raise _error_from_status(json.loads(text), response.status)
    except (ValueError, AttributeError):
        raise ApiError(response.status, response.reason or "", text[:1024]) from None


def _error_from_status(status: Object, http_status: int = 0) -> ApiError:
    causes = (status.get("details") or {}).get("causes") or ()
    return ApiError(
        int(status.get("code", http_status)),
        status.get("reason", ""),
        status.get("message", "no message"),
        {cause.get("reason", ""): cause.get("message", "") for cause in causes},
    )


async def backoff(attempt: int, *, first_seconds: float = 0.2, longest_seconds: float = 10.0) -> None:
    """Wait before a repeated try: doubling from `first_seconds` up to `longest_seconds`."""
    await asyncio.sleep(min(longest_seconds, first_seconds * 2 ** min(attempt, 16)))
