"""The API server in memory: versions, generations, subresources, preconditions, watches, lost answers."""

import asyncio
import copy
import itertools
from collections import Counter

from lull.kube import ApiError


def conflict(message="the object has been modified"):
    return ApiError(409, "Conflict", message)


class FakeApi:
    """Has `lull.kube.Kube`'s methods.

    `before(verb, kind, name)` may raise what the server answers, `after` what the client sees of a write.
    """

    def __init__(self):
        self.objects = {}
        self.log = []
        self.writes = Counter()
        self.before = lambda *_: None
        self.after = lambda *_: None
        self.duplicate_events = False
        self.budgets = {}  # what forbids to evict a Pod, by its name
        self.collects = True  # else what is deleted after its dependents stays until `remove`
        self.first_version = 0
        self._version = itertools.count(1)
        self._uid = itertools.count(1)
        self._news = asyncio.Condition()
        self._watches = set()
        self.now = 0

    # What the client does.

    async def get(self, kind, name, namespace=None):
        await self._turn("get", kind, name)
        found = self.objects.get((kind.plural, namespace or "", name))
        return copy.deepcopy(found)

    async def list(
        self, kind, namespace=None, *, label_selector=None, field_selector=None, keep=lambda item: item
    ):
        await self._turn("list", kind, "")
        items = [
            keep(copy.deepcopy(item))
            for (plural, ns, _), item in self.objects.items()
            if plural == kind.plural and namespace in (None, ns) and _selected(item, label_selector)
        ]
        return items, str(self.now)

    async def watch(
        self,
        kind,
        namespace,
        resource_version,
        *,
        label_selector=None,
        field_selector=None,
        window_seconds=300,
    ):
        await self._turn("watch", kind, "")
        seen = int(resource_version)
        if seen < self.first_version:
            raise ApiError(410, "Expired", "too old resource version")
        me = object()
        self._watches.add(me)
        try:
            while True:
                for version, type_, item in [entry for entry in self.log if entry[0] > seen]:
                    seen = version
                    metadata = item["metadata"]
                    if item["_plural"] != kind.plural or namespace not in (
                        None,
                        metadata.get("namespace", ""),
                    ):
                        continue
                    if not _selected(item, label_selector):
                        continue
                    clean = {name: value for name, value in item.items() if name != "_plural"}
                    for _ in range(2 if self.duplicate_events else 1):
                        yield {"type": type_, "object": copy.deepcopy(clean)}
                if me not in self._watches:
                    raise ApiError(0, "Disconnected", "the watch broke")
                async with self._news:
                    if self.now == seen or not any(entry[0] > seen for entry in self.log):
                        await self._news.wait()
        finally:
            self._watches.discard(me)

    async def create(self, kind, body, subresource=None, *, dry_run=False):
        metadata = body["metadata"]
        await self._turn(subresource or "create", kind, metadata["name"])
        if subresource == "eviction":
            assert dry_run, "only asked about, never done"
            return self._evict(metadata)
        key = (kind.plural, metadata.get("namespace", ""), metadata["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f"{metadata['name']} already exists")
        item = copy.deepcopy(body)
        item["metadata"] |= {"uid": f"uid-{next(self._uid)}", "generation": 1}
        self._store(key, item, "ADDED")
        return self._answer("create", kind, item)

    async def apply(self, kind, body, *, field_manager, subresource=None):
        metadata = body["metadata"]
        await self._turn("apply", kind, metadata["name"])
        key = (kind.plural, metadata.get("namespace", ""), metadata["name"])
        old = self.objects.get(key)
        if old is None and subresource:
            raise ApiError(404, "NotFound", "not found")
        if metadata.get("uid") and (old is None or old["metadata"]["uid"] != metadata["uid"]):
            raise conflict("uid mismatch")
        item = copy.deepcopy(old)
        item[subresource or "spec"] = copy.deepcopy(body[subresource or "spec"])
        if item != old:
            self._update(key, old, item)
        return self._answer("apply", kind, self.objects[key])

    async def merge_patch(self, kind, name, namespace, body, *, subresource=None):
        await self._turn("patch", kind, name)
        key = (kind.plural, namespace or "", name)
        old = self._found(key)
        item = _merged(old, body)
        self._update(key, old, item)
        return self._answer("patch", kind, self.objects[key])

    async def json_patch(self, kind, name, namespace, operations, *, subresource=None):
        await self._turn("patch", kind, name)
        key = (kind.plural, namespace or "", name)
        old = self._found(key)
        item = copy.deepcopy(old)
        for operation in operations:
            *path, last = operation["path"].strip("/").split("/")
            target = item
            for part in path:
                target = target[part]
            if operation["op"] == "test":
                if target.get(last) != operation["value"]:
                    raise ApiError(
                        422, "Invalid", "the server rejected our request due to an error in our request"
                    )
            elif operation["op"] == "remove":
                del target[last]
            else:
                target[last] = copy.deepcopy(operation["value"])
        self._update(key, old, item)
        return self._answer("patch", kind, self.objects[key])

    async def replace(self, kind, body, *, subresource=None):
        metadata = body["metadata"]
        await self._turn("replace", kind, metadata["name"])
        key = (kind.plural, metadata.get("namespace", ""), metadata["name"])
        old = self._found(key)
        if metadata.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise conflict()
        item = copy.deepcopy(body)
        item["metadata"] = copy.deepcopy(old["metadata"])
        self._update(key, old, item)
        return self._answer("replace", kind, self.objects[key])

    async def delete(
        self,
        kind,
        name,
        namespace=None,
        *,
        uid=None,
        resource_version=None,
        grace_seconds=None,
        after_dependents=False,
    ):
        await self._turn("delete", kind, name)
        key = (kind.plural, namespace or "", name)
        if key not in self.objects:
            return False
        metadata = self.objects[key]["metadata"]
        if uid not in (None, metadata["uid"]) or resource_version not in (None, metadata["resourceVersion"]):
            raise conflict("the precondition failed")
        if after_dependents:
            item = copy.deepcopy(self.objects[key])
            item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._update(key, self.objects[key], item)
            if self.collects:
                asyncio.get_running_loop().call_soon(self.remove, *key)
        else:
            self.remove(*key)
        self._answer("delete", kind, {"metadata": metadata})
        return True

    # What others do, at once.

    def put(self, kind, body):
        """Create an object, or change its spec, as somebody else's client."""
        metadata = body["metadata"]
        key = (kind.plural, metadata.get("namespace", ""), metadata["name"])
        if key in self.objects:
            item = copy.deepcopy(self.objects[key])
            item["spec"] = copy.deepcopy(body["spec"])
            self._update(key, self.objects[key], item)
        else:
            item = copy.deepcopy(body)
            item["metadata"] |= {"uid": f"uid-{next(self._uid)}", "generation": 1}
            self._store(key, item, "ADDED")
        return self.objects[key]

    def annotate(self, kind, name, namespace, annotations):
        """Change an object's annotations, which leaves its generation as it is."""
        key = (kind.plural, namespace or "", name)
        item = copy.deepcopy(self.objects[key])
        item["metadata"]["annotations"] = annotations
        self._update(key, self.objects[key], item)

    def set_status(self, kind, name, namespace, status):
        key = (kind.plural, namespace or "", name)
        item = copy.deepcopy(self.objects[key])
        item["status"] = copy.deepcopy(status)
        if item != self.objects[key]:
            self._update(key, self.objects[key], item)

    def remove(self, plural, namespace, name):
        """Delete an object and, as the garbage collector does, what it owns."""
        item = self.objects.pop((plural, namespace, name), None)
        if item is None:
            return
        self._record(item, plural, "DELETED")
        uid = item["metadata"]["uid"]
        for (other, ns, child), owned in list(self.objects.items()):
            if any(ref["uid"] == uid for ref in owned["metadata"].get("ownerReferences", ())):
                self.remove(other, ns, child)

    def all(self, kind):
        return [item for (plural, _, _), item in sorted(self.objects.items()) if plural == kind.plural]

    def break_watches(self, *, expired=False):
        """End every watch; with `expired`, what it missed cannot be had any more."""
        if expired:
            self.first_version = self.now + 1
            self.log.clear()
            self.now = next(self._version)
        self._watches.clear()
        self._notify()

    # Within.

    async def _turn(self, verb, kind, name):
        await asyncio.sleep(0)
        self.before(verb, kind.plural, name)

    def _answer(self, verb, kind, item):
        self.writes[verb, kind.plural] += 1
        self.after(verb, kind.plural, item["metadata"]["name"])
        return copy.deepcopy(item)

    def _evict(self, metadata):
        self._found(("pods", metadata["namespace"], metadata["name"]))
        if why := self.budgets.get(metadata["name"]):
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiError(429, "TooManyRequests", message, {"DisruptionBudget": why})
        return {"kind": "Status", "status": "Success"}

    def _found(self, key):
        if key not in self.objects:
            raise ApiError(404, "NotFound", f"{key[2]} not found")
        return self.objects[key]

    def _update(self, key, old, item):
        if item.get("spec") != old.get("spec"):
            item["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if item != old:
            self._store(key, item, "MODIFIED")

    def _store(self, key, item, type_):
        self.objects[key] = item
        self._record(item, key[0], type_)

    def _record(self, item, plural, type_):
        self.now = next(self._version)
        item["metadata"]["resourceVersion"] = str(self.now)
        self.log.append((self.now, type_, copy.deepcopy(item) | {"_plural": plural}))
        self._notify()

    def _notify(self):
        async def notify():
            async with self._news:
                self._news.notify_all()

        self._notifying = asyncio.get_running_loop().create_task(notify())


def _merged(old, new):
    """Merge as RFC 7386 says."""
    if not isinstance(new, dict):
        return copy.deepcopy(new)
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _selected(item, selector):
    labels = item["metadata"].get("labels", {})
    name, equals, value = (selector or "").partition("=")
    return selector is None or (name in labels and (not equals or labels[name] == value))
