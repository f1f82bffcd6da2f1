"""The controller's own ledger, over pools made anew, specs that turn invalid, and crashes at any write."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from lull.controller.bill import pool_figures, service_figures
from lull.controller.carbon import Carbon
from lull.controller.ledger import Ledger
from lull.controller.news import News
from lull.controller.view import View
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES
from lull.policy import NOTHING_NOTED, plan

KEYS = ("demo/a", "demo/b")
POWER = {"idleWatts": 16, "contextWatts": 21, "maxWatts": 72}

joules = st.integers(0, 500)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.tuples(joules, st.sampled_from(KEYS), joules, joules)),
        st.tuples(st.just("wait"), st.floats(0.0, 5000.0)),
        st.tuples(st.just("spec"), st.tuples(st.sampled_from((*KEYS, "p")), st.booleans())),
        st.tuples(st.just("write"), st.sampled_from((*KEYS, "p"))),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("new pool"), st.none()),
    ),
    max_size=30,
)


class Fleet:
    """A pool with one host that holds two services for ever, and what they truly drew."""

    def __init__(self):
        self.now, self.version, self.pools = 1_700_000_000.0, 0, 0
        self.objects = {key: self.service(key) for key in KEYS} | {"p": self.pool()}
        self.parts = {key: [0, 0] for key in KEYS}
        self.unallocated = self.before = 0
        self.objects["h"] = self.host()
        self.start()

    @property
    def drawn(self):
        return self.unallocated + sum(map(sum, self.parts.values()))

    def service(self, key):
        model = {"uri": "file:///m.tar", "digest": "sha256:" + "0" * 64}
        namespace, name = key.split("/")
        spec = {"model": model, "pool": "p", "resources": {"memory": "100Mi"}}
        return {"metadata": {"name": name, "namespace": namespace, "uid": key}, "spec": spec}

    def pool(self):
        self.pools += 1
        spec = {"hosts": {"max": 3}, "memory": "4Gi", "power": POWER}
        return {"metadata": {"name": "p", "uid": f"p{self.pools}"}, "spec": spec}

    def host(self):
        models = []
        for key, (idle, dynamic) in self.parts.items():
            energy = {"idleJoules": idle, "dynamicJoules": dynamic}
            models.append({"id": key[-1], "service": key, "state": "Ready", "energy": energy})
        dynamic = sum(part for _, part in self.parts.values())
        energy = {"basis": "Modelled", "joules": self.drawn, "dynamicJoules": dynamic}
        energy |= {"unallocatedJoules": self.unallocated}
        status = {"models": models, "energy": energy}
        return {"metadata": {"name": "h", "uid": "h"}, "spec": {"pool": "p", "models": []}, "status": status}

    def start(self):
        self.view, self.last = View(), None
        self.ledger = Ledger(self.view, lambda: self.now, Carbon(None, self.view, lambda: self.now))
        self.worth = News(self.view, self.ledger)
        self.view.on_news = lambda kind, key, _matters: self.ledger.see(kind, key)
        for name in self.objects:
            self.tell(name)
        self.plan()

    def tell(self, name):
        self.version += 1
        self.objects[name]["metadata"]["resourceVersion"] = str(self.version)
        self.view.offer(self.kind(name), copy.deepcopy(self.objects[name]))

    def kind(self, name):
        return {"p": MODELPOOLS, "h": MODELHOSTS}.get(name, MODELSERVICES)

    def plan(self):
        fleet = self.view.fleet("")
        self.last = plan(fleet, NOTHING_NOTED, self.now, self.last)
        self.ledger.follow(fleet, self.last)
        for name in ("p", *KEYS):  # who is new, and what a plan changes, is written at once, as by the writer
            told = self.objects[name].get("status") or {}
            if not told or self.worth.rates(self.kind(name), name, told):
                self.write(name)

    def write(self, name):
        if name == "p" and self.ledger.pool(name):
            self.objects[name]["status"] = pool_figures(self.ledger, name)
        elif name != "p" and self.ledger.service(name):
            figures = service_figures(self.ledger, name, None, lambda: self.now)
            self.objects[name]["status"] = figures
        self.tell(name)

    def step(self, what, value):
        if what == "draw":
            unallocated, key, idle, dynamic = value
            self.unallocated += unallocated
            self.parts[key][0] += idle
            self.parts[key][1] += dynamic
            self.objects["h"] = self.host()
            self.tell("h")
        elif what == "wait":
            self.now += value
        elif what == "write":
            self.write(value)
        elif what == "crash":
            self.start()
        elif what == "new pool":
            self.objects["p"], self.before = self.pool(), self.drawn
            self.tell("p")
            self.plan()
        else:
            name, sound = value
            field, wrong = ("memory", "much") if name == "p" else ("idleAfter", "soon")
            fine = {"memory": "4Gi", "idleAfter": "5m"}[field]
            self.objects[name]["spec"][field] = fine if sound else wrong
            self.tell(name)
            self.plan()
            self.tell("h")  # what was not charged meanwhile is with the next figures


@given(steps)
def test_what_was_drawn_is_counted_once_whatever_is_made_anew_unreadable_or_restarted(history):
    fleet = Fleet()
    baselines = {}
    for what, value in history:
        fleet.step(what, value)
        for key, figures in fleet.ledger.services():
            assert [figures.idle_joules, figures.dynamic_joules] == fleet.parts[key]
            if (
                figures.baseline_joules is None
            ):  # its pool cannot be read since a crash: its meters are unknown
                baselines.pop(key, None)
            else:
                assert figures.baseline_joules >= baselines.get(key, 0)
                baselines[key] = figures.baseline_joules
        for name, figures in fleet.ledger.pools().items():
            assert figures.joules == fleet.drawn - fleet.before
            books = (fleet.ledger.service(key) for key in KEYS)
            assert fleet.ledger.pool(name).account.mebibytes == sum(b.account.mebibytes for b in books if b)
