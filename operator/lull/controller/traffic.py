"""What the revisions of services in a rollout were asked, summed up over the gateways' own totals."""

from collections.abc import Container

from lull.controller.wire import Object
from lull.policy.verdict import Sample

NOTHING = Sample()


class Traffic:
    """Sums since this controller started, or since `restart`; the gateways' totals go on over both.

    Bounded by the services in a rollout, and by what gateways tell.
    """

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Sample]] = {}  # by the gateway's uid, as it says now
        self._sums: dict[str, Sample] = {}  # by namespace/name@revision

    def meet(self, gateway: Object) -> None:
        """Take a gateway that was here before this controller: what it counted so far is not news."""
        self._seen[gateway["metadata"]["uid"]] = _told(gateway)

    def see(self, gateway: Object, rolling: Container[str]) -> set[str]:
        """Count what a gateway tells since it was last seen of services that are `rolling`.

        A total that fell began anew, as its gateway did, or its counting of that revision.

        Returns:
            The services that this concerns.
        """
        uid = gateway["metadata"]["uid"]
        seen, told = self._seen.get(uid, {}), _told(gateway)
        self._seen[uid] = told
        news = set()
        for name, total in told.items():
            service = name.partition("@")[0]
            if service in rolling and total != seen.get(name):
                self._sums[name] = self._sums.get(name, NOTHING) + (total - seen.get(name, NOTHING))
                news.add(service)
        return news

    def forget_gateways(self, alive: set[str]) -> None:
        """Drop the gateways whose uids are not among `alive`."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in alive}

    def sample(self, service: str, revision: str) -> Sample:
        """Return what a revision was asked."""
        return self._sums.get(f"{service}@{revision}", NOTHING)

    def restart(self, service: str) -> None:
        """Begin anew for a service, as a step of its rollout does."""
        for name in [name for name in self._sums if name.partition("@")[0] == service]:
            del self._sums[name]


def _told(gateway: Object) -> dict[str, Sample]:
    traffic = (gateway.get("status") or {}).get("traffic") or {}
    return {name: _sample(counts) for name, counts in traffic.items()}


def _sample(counts: Object) -> Sample:
    return Sample(
        counts.get("requests", 0),
        counts.get("failures", 0),
        tuple(counts.get("latency") or ()),
        counts.get("compared", 0),
        counts.get("differed", 0),
    )
