"""What `lull rollout` shows of a status, what it patches, and what it says where it patches nothing."""

import contextlib
import copy
import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lull.api.names import ANNOTATION_ROLLOUT, API_VERSION
from lull.api.service import ModelService
from lull.cli import app
from lull.cli.rollout import commands, page
from lull.cli.rollout.figures import rollout
from lull.controller.wire import service_from
from lull.kube import ApiError
from unit.controller.fake_api import _merged

NOW = "2026-11-22T08:00:00Z"
SINCE = "2026-11-22T07:58:40Z"
DIGESTS = {name: f"sha256:{at:064x}" for at, name in enumerate(("old", "new", "older"))}


def model(name):
    return {"uri": f"file:///{name}.tar", "digest": DIGESTS[name], "format": "Auto"}


def revision_of(name):
    item = {"metadata": {"namespace": "demo", "name": "digits"}, "spec": {"model": model(name)}}
    return service_from(item).model.revision


OLD, NEW, OLDER = (revision_of(name) for name in ("old", "new", "older"))


def revision(name, state, percent=0, ready=False, **more):
    source = model(name)
    return {
        "name": revision_of(name),
        "digest": source["digest"],
        "uri": source["uri"],
        "format": source["format"],
        "modelName": "digits",
        "state": state,
        "since": SINCE,
        "percent": percent,
        "ready": ready,
    } | more


def service(phase="Stepping", *, spec="new", revisions=None, annotations=None, **status):
    """A ModelService whose second revision is rolled out, as the API server holds it."""
    running = phase in ("Validating", "Shadowing", "Stepping", "Promoting", "Swapping")
    traffic = [
        {"revision": NEW, "requests": 31, "failures": 2, "p95": "12ms", "compared": 40, "differed": 3},
        {"revision": OLD, "requests": 1240, "failures": 0, "p95": "9ms"},
    ]
    told = {
        "rollout": {
            "stable": OLD,
            "candidate": NEW,
            "phase": phase,
            "percent": 20 if running else 0,
            "shadowPercent": 0,
            "step": 1,
            "since": SINCE,
            "message": "it waits for 19 more requests",
            "traffic": traffic,
        }
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelService",
        "metadata": {
            "namespace": "demo",
            "name": "digits",
            "generation": 2,
            "annotations": annotations or {},
        },
        "spec": {"model": model(spec), "rollout": {"steps": [20, 50]}},
        "status": {
            "observedGeneration": 2,
            "revisions": revisions
            or [
                revision("new", "Candidate" if running else phase or "Serving", 20, ready=running),
                revision("old", "Serving", 80, ready=True),
                revision("older", "Superseded"),
            ],
            **({} if phase is None else told),
            **status,
        },
    }


class OneService:
    """The API server of a user who may read and patch one ModelService."""

    def __init__(self):
        self.item = None
        self.patches = []
        self.before = lambda verb: None

    async def get(self, kind, name, namespace):
        self.before("get")
        return copy.deepcopy(self.item) if (name, namespace) == ("digits", "demo") else None

    async def merge_patch(self, kind, name, namespace, body):
        self.before("patch")
        self.patches.append(body)
        self.item = _merged(self.item, body)


@pytest.fixture
def cluster(monkeypatch):
    api = OneService()

    async def connect():
        return contextlib.nullcontext(api)

    monkeypatch.setattr(commands, "connect", connect)
    monkeypatch.setattr(commands, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(commands, "present_namespace", lambda: "demo")
    return api


def put(api, item):
    api.item = item


def held(api):
    return api.item


def said(api):
    return held(api)["metadata"].get("annotations", {}).get(ANNOTATION_ROLLOUT)


def run(*words):
    return CliRunner().invoke(app, ["rollout", *words])


def lines(item, width):
    out = io.StringIO()
    console = Console(width=width, file=out)
    for line in page.rendered(rollout(item), NOW, width):
        console.print(line)
    return out.getvalue().splitlines()


# status


def test_the_statuses_of_these_tests_are_what_the_api_allows():
    for phase in ("Stepping", "Rejected", "Aborted"):
        item = service(phase)
        ModelService.model_validate({"spec": item["spec"], "status": item["status"]})


def test_a_table_shows_what_each_revision_gets_and_did_and_what_is_waited_for():
    shown = lines(service(), 200)
    assert shown[0] == f"demo/digits: {NEW} Stepping (1m20s)"
    assert shown[1] == "step 1 of 2: it gets 20 % of the requests"
    assert shown[2] == "it waits for 19 more requests"
    head, new, old, older = shown[4:8]
    assert head.split()[:9] == [
        *("REVISION", "STATE", "SHARE", "READY", "SINCE", "REQUESTS", "FAILED", "P95", "DIFFERED"),
    ]
    assert new.split()[:9] == [NEW, "Candidate", "20%", "yes", "1m20s", "31", "2", "12ms", "3/40"]
    assert old.split()[:9] == [OLD, "Serving", "80%", "yes", "1m20s", "1,240", "0", "9ms", "–"]
    assert older.split()[:6] == [OLDER, "Superseded", "0%", "no", "1m20s", "–"]
    assert "file:///new.tar" in new
    assert shown[-2].startswith("kubectl lull rollout promote digits -n demo")
    assert lines(service("Rejected"), 200)[-1].startswith("kubectl lull rollout undo digits -n demo")


def test_what_to_do_about_a_revision_that_came_to_nothing_is_told_until_the_spec_asks_for_what_serves():
    back = [{"type": "RolledOut", "status": "True", "reason": "Serving", "message": ""}]
    assert lines(service("Aborted"), 80)[-1].endswith(f"puts {OLD} back into the spec")
    assert "undo" not in "".join(lines(service("Aborted", spec="old", conditions=back), 80))


@pytest.mark.parametrize(
    "phase", ["Validating", "Shadowing", "Stepping", "Promoting", "Swapping", "Rejected"]
)
def test_no_line_of_a_status_is_broken_at_80_columns(phase):
    item = service(phase)
    told = [str(line) for line in page.told(rollout(item), NOW)]
    assert told == lines(item, 80)[: len(told)]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_the_terminal(width):
    reason = {"reason": "GoldenMismatch", "message": "golden case 0: output[0, 0] is 1 here and was 2"}
    item = service("Rejected", revisions=[revision("new", "Rejected", **reason), revision("old", "Serving")])
    assert max(map(len, lines(item, width)[3:6])) <= width
    assert any(NEW in line and "Rejected" in line for line in lines(item, width)[3:6])


def test_json_has_the_documented_keys_and_base_units(cluster):
    put(cluster, service())
    told = json.loads(run("status", "digits", "-n", "demo", "-o", "json").stdout)
    assert set(told) == {
        *(
            "namespace",
            "service",
            "phase",
            "stable",
            "candidate",
            "percent",
            "shadow_percent",
            "step",
            "steps",
        ),
        *("since", "message", "current", "serves", "stalled", "revisions"),
    }
    assert told["revisions"][0]["p95_seconds"] == 0.012
    assert told["revisions"][2]["requests"] is None


def turning(api, *items):
    """Have each look at the service find the next of these."""
    looks = iter(items)

    def before(verb):
        if (found := next(looks, None)) is not None:
            if isinstance(found, Exception):
                raise found
            put(api, found)

    api.before = before


@pytest.mark.parametrize(
    ("last", "code"),
    [("Promoted", 0), ("Rejected", 1), ("Aborted", 1)],
    ids=["promoted", "rejected", "aborted"],
)
def test_watch_tells_each_phase_once_and_ends_with_the_outcome(cluster, last, code):
    turning(cluster, service("Validating"), service("Stepping"), service("Stepping"), service(last))
    done = run("status", "digits", "--watch", "--timeout", "5s")
    assert done.exit_code == code, done.output
    assert [done.stdout.count(phase) for phase in ("Validating", "Stepping")] == [1, 1]
    assert done.stdout.count(f"digits: {NEW} {last}") == 1
    assert done.stdout.count("REVISION") == 1


def test_watch_waits_for_the_newest_spec_to_be_looked_at(cluster):
    stale = service("Promoted", observedGeneration=1)
    turning(cluster, stale, service("Stepping"), service("Rejected"))
    done = run("status", "digits", "--watch", "--timeout", "5s")
    assert "has not been looked at yet" in done.stdout
    assert done.exit_code == 1


def test_watch_outlives_an_api_server_that_is_away(cluster):
    away = ApiError(0, "Unreachable", "no answer")
    turning(cluster, service("Stepping"), away, away, service("Promoted"))
    assert run("status", "digits", "--watch", "--timeout", "5s").exit_code == 0


def test_watch_ends_in_time_and_says_what_it_waited_for(cluster):
    put(cluster, service("Stepping"))
    done = run("status", "digits", "--watch", "--timeout", "50ms")
    assert done.exit_code == 1
    assert "not decided within" in done.stderr
    assert "it waits for 19 more requests" in done.stderr


def test_a_first_revision_that_serves_is_fine_and_one_that_cannot_is_not(cluster):
    def first(serves, stalled):
        kinds = {"RolledOut": (serves, ""), "Stalled": (stalled, "DigestMismatch: other bytes")}
        conditions = [
            {"type": kind, "status": "True" if true else "False", "reason": "R", "message": message}
            for kind, (true, message) in kinds.items()
        ]
        return service(None, conditions=conditions)

    put(cluster, first(True, False))
    assert run("status", "digits", "--watch", "--timeout", "5s").exit_code == 0
    turning(cluster, first(False, False), first(True, True))
    done = run("status", "digits", "--watch", "--timeout", "5s")
    assert done.exit_code == 1
    assert "DigestMismatch: other bytes" in done.stdout


# promote and abort


def test_what_its_user_aborted_is_promoted_without_being_told_why_it_was(cluster):
    why = {"message": "its user aborted it; promote it to try again"}
    put(
        cluster, service("Aborted", revisions=[revision("new", "Aborted", **why), revision("old", "Serving")])
    )
    refused, done = run("promote", "digits"), run("promote", "digits", "--revision", NEW)
    assert f"{NEW} was aborted\n" in refused.stderr
    assert done.stdout.endswith("as soon as it is ready. It was aborted\n")


def test_promote_annotates_the_candidate_and_tells_what_will_happen(cluster):
    put(cluster, service())
    done = run("promote", "digits", "-n", "demo")
    assert done.exit_code == 0, done.output
    assert said(cluster) == f"promote {NEW}"
    assert f"{NEW} gets all requests as soon as it is ready" in done.stdout
    assert "said already" in run("promote", "digits").stdout
    assert len(cluster.patches) == 1, "said once is enough"


@pytest.mark.parametrize(
    ("stood", "says"), [("promote {}", "promote {} again"), ("promote {} again", "promote {}")]
)
def test_a_word_of_an_earlier_rollout_is_said_again_in_other_words(cluster, stood, says):
    stood, says = stood.format(NEW), says.format(NEW)
    item = service(annotations={ANNOTATION_ROLLOUT: stood})
    item["status"]["rollout"]["heard"] = stood
    put(cluster, item)
    assert run("promote", "digits").exit_code == 0
    assert said(cluster) == says
    assert "said already" in run("promote", "digits").stdout


def test_a_rejected_one_is_promoted_only_by_name(cluster):
    why = {"reason": "TooManyFailures", "message": "9 of 40 requests failed"}
    put(
        cluster,
        service("Rejected", revisions=[revision("new", "Rejected", **why), revision("old", "Serving")]),
    )
    refused = run("promote", "digits")
    assert refused.exit_code == 1
    assert "9 of 40 requests failed" in refused.stderr
    assert f"--revision {NEW}" in refused.stderr
    assert said(cluster) is None
    done = run("promote", "digits", "--revision", NEW)
    assert "9 of 40 requests failed" in done.stdout
    assert said(cluster) == f"promote {NEW}"


def test_nobody_overrules_golden_cases(cluster):
    why = {"reason": "GoldenMismatch", "message": "golden case 0: output[0, 0] is 1 here and was 2"}
    put(
        cluster,
        service("Rejected", revisions=[revision("new", "Rejected", **why), revision("old", "Serving")]),
    )
    refused = run("promote", "digits", "--revision", NEW)
    assert refused.exit_code == 1
    assert "golden case 0" in refused.stderr
    assert said(cluster) is None


def test_what_serves_needs_no_promotion(cluster):
    put(
        cluster,
        service("Promoted", revisions=[revision("new", "Serving", 100), revision("old", "Superseded")]),
    )
    done = run("promote", "digits")
    assert done.exit_code == 0
    assert "serves already" in done.stdout
    assert said(cluster) is None


@pytest.mark.parametrize(("revision", "advice"), [(OLDER, f"--to {OLDER}"), ("nothing", "status digits")])
def test_only_what_the_spec_says_can_be_promoted(cluster, revision, advice):
    put(cluster, service())
    refused = run("promote", "digits", "--revision", revision)
    assert refused.exit_code == 1
    assert advice in refused.stderr
    assert said(cluster) is None


def test_abort_annotates_the_candidate_and_says_who_goes_on(cluster):
    put(cluster, service())
    done = run("abort", "digits")
    assert said(cluster) == f"abort {NEW}"
    assert f"{OLD} goes on serving" in done.stdout


def test_abort_after_the_end_says_what_there_is_to_do(cluster):
    put(cluster, service("Rejected"))
    assert "rejected already" in run("abort", "digits").stdout
    put(
        cluster,
        service("Promoted", revisions=[revision("new", "Serving", 100), revision("old", "Superseded")]),
    )
    refused = run("abort", "digits")
    assert refused.exit_code == 1
    assert "kubectl lull rollout undo digits -n demo" in refused.stderr
    assert said(cluster) is None


# undo


def test_undo_puts_the_last_one_that_served_back(cluster):
    put(
        cluster,
        service("Promoted", revisions=[revision("new", "Serving", 100), revision("old", "Superseded")]),
    )
    done = run("undo", "digits")
    assert done.exit_code == 0, done.output
    assert held(cluster)["spec"]["model"] == model("old")
    assert service_from(held(cluster)).model.revision == OLD, "the very same revision, not a new one"
    assert "GitOps" in done.stdout


def test_undo_of_what_did_not_take_over_goes_back_to_what_serves(cluster):
    put(cluster, service("Rejected"))
    done = run("undo", "digits")
    assert service_from(held(cluster)).model.revision == OLD
    assert f"{OLD} goes on serving" in done.stdout


def test_undo_keeps_the_name_on_the_wire_where_it_is_not_the_services_own(cluster):
    item = service("Promoted")
    item["status"]["revisions"][2]["modelName"] = "other"
    item["spec"]["model"]["name"] = "third"
    put(cluster, item)
    run("undo", "digits", "--to", OLDER)
    assert held(cluster)["spec"]["model"]["name"] == "other"
    run("undo", "digits", "--to", OLD)
    assert "name" not in held(cluster)["spec"]["model"]


def test_undo_without_anything_to_go_back_to_says_so(cluster):
    put(cluster, service(None, revisions=[revision("new", "Serving", 100)]))
    assert "no revision served before" in run("undo", "digits").stderr
    assert "knows no revision nothing" in run("undo", "digits", "--to", "nothing").stderr
    assert "nothing is changed" in run("undo", "digits", "--to", NEW).stdout
    assert held(cluster)["spec"]["model"] == model("new")


# errors


def test_an_unknown_service_is_said_with_where_to_look(cluster):
    refused = run("status", "digits", "-n", "elsewhere")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "Error: there is no ModelService digits in elsewhere: kubectl get msvc -A"
    )


@pytest.mark.parametrize(("verb", "words"), [("get", ["status"]), ("patch", ["abort"]), ("get", ["undo"])])
def test_a_missing_right_is_named(cluster, verb, words):
    put(cluster, service())

    def before(now):
        if now == verb:
            raise ApiError(403, "Forbidden", "no")

    cluster.before = before
    refused = run(*words, "digits")
    assert refused.exit_code == 1
    assert f"you may not {verb} modelservices in demo: ask for that right" in refused.stderr


def test_a_timeout_that_is_no_duration_is_wrong_usage(cluster):
    assert run("status", "digits", "--watch", "--timeout", "soon").exit_code == 2
