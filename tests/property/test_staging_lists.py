"""Whatever the fleet, what hosts are told to keep ready fits, and telling them is the end of it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lull.policy import Fleet, Host, Model, Notes, Pod, Pool, Service
from lull.policy.fleet import Artifact, candidate_key
from lull.policy.habits import Habit
from lull.policy.learning import Learned
from lull.policy.staging import MOST_ARTIFACTS, stages

NOW = 1e6
GIB = 2**30


@st.composite
def services(draw):
    """A service whose artifact another may have too; some are candidates of others."""
    number = draw(st.integers(0, 99))
    artifact = draw(st.integers(0, 30))
    key, follows = f"a/s{number}", draw(st.booleans())
    model = Model("r", "m", f"oci://store/{artifact}", f"sha256:{artifact:064x}")
    return Service(
        candidate_key(key, "r") if follows else key,
        model,
        "pool",
        memory_bytes=draw(st.one_of(st.none(), st.integers(1, 3 * GIB))),
        suspend=draw(st.integers(0, 9)) == 0,
        follows=key if follows else "",
    )


ages = st.dictionaries(
    st.integers(0, 99), st.sampled_from([1.0, 40.0, 100.0, 900.0, 8000.0, 90_000.0, 1e6]), max_size=60
)
artifacts = st.builds(
    lambda artifact, service: Artifact(f"oci://store/{artifact}", f"sha256:{artifact:064x}", f"a/s{service}"),
    st.integers(0, 30),
    st.integers(0, 99),
)


@given(
    st.lists(services(), max_size=60, unique_by=lambda service: service.key),
    ages,
    st.lists(st.lists(artifacts, max_size=12, unique_by=lambda a: a.digest).map(tuple), max_size=3),
    st.one_of(st.none(), st.integers(1, 40 * GIB)),
)
def test_a_list_fits_names_nothing_twice_and_once_told_is_told_no_more(made, silent, told, size_bytes):
    fleet = Fleet(
        {service.key: service for service in made},
        {"pool": Pool("pool", 4 * GIB, 3, staged_bytes=size_bytes)},
        {f"h{n}": Host(f"h{n}", "pool", pod=Pod.RUNNING, stage=stage) for n, stage in enumerate(told)},
        {},
    )
    habits = {f"a/s{number}": Habit(silent_since=NOW - age) for number, age in silent.items()}
    notes = Notes(learned=Learned(habits))
    changes = list(filter(None, stages(fleet, notes, NOW)))
    for change in changes:
        digests = [artifact.digest for artifact in change.artifacts]
        assert len(digests) == len(set(digests)) <= MOST_ARTIFACTS
        assert sum(_size_bytes(made, artifact) for artifact in change.artifacts) <= (size_bytes or 0)
    hosts = dict(fleet.hosts) | {c.host: replace(fleet.hosts[c.host], stage=c.artifacts) for c in changes}
    assert not any(stages(replace(fleet, hosts=hosts), notes, NOW))


def _size_bytes(made, artifact):
    """The least that an artifact is taken for: of two services with one name it may be either's."""
    same = [s for s in made if artifact.service in (s.key, s.follows) and s.model.uri == artifact.uri]
    return min(service.memory_bytes or GIB for service in same)
