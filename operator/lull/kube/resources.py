"""Where each kind lives in the API."""

from dataclasses import dataclass

from lull.api.names import GROUP, VERSION


@dataclass(frozen=True)
class Resource:
    """One kind of the API: enough to build any URL of it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Return the URL path of the collection or of one object.

        Raises:
            ValueError: a single namespaced object was asked for without its namespace.
        """
        if self.namespaced and name and not namespace:
            raise ValueError(f"{self.kind} {name} lives in a namespace, and none was given")
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


MODELSERVICES = Resource(GROUP, VERSION, "modelservices", "ModelService")
MODELPOOLS = Resource(GROUP, VERSION, "modelpools", "ModelPool", namespaced=False)
MODELHOSTS = Resource(GROUP, VERSION, "modelhosts", "ModelHost")
MODELGATEWAYS = Resource(GROUP, VERSION, "modelgateways", "ModelGateway")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
PRIORITYCLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
