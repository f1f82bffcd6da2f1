"""How a new revision takes over: each phase, what ends it, and what its user reads meanwhile."""

import pytest

from lull.policy.rollout import TAKEN_BACK, Phase, Rollout, Signs, Wish, advance, begin
from lull.policy.verdict import Bar, Sample
from unit.policy.fleets import replace

OLD, NEW, THIRD = "old", "new", "third"
AT_ONCE = Wish(NEW, pause_seconds=60.0)
CANARY = Wish(NEW, (20, 50, 100), pause_seconds=60.0)
READY = Signs(wanted=1, have=1)
FINE = replace(READY, old=Sample(200), new=Sample(50))
BROKEN = ("GoldenMismatch", "case 1: it answers 3, not 4")
FAILS = replace(READY, old=Sample(200), new=Sample(20, 20))
FULL = Signs(wanted=1, no_room_seconds=30.0)


def rolling(phase, **fields):
    return Rollout(OLD, NEW, phase, **fields)


def go_on(rollout, wish=AT_ONCE, signs=READY, now=1000.0):
    """Return the next state, which nothing changes any more unless something else is seen."""
    after, due_at = advance(rollout, wish, signs, now)
    assert advance(after, wish, signs, now) == (after, due_at)
    return after


def promoted_by_hand(wish=AT_ONCE):
    return replace(wish, command=("promote", NEW))


VALIDATING, SHADOWING = rolling(Phase.VALIDATING), rolling(Phase.SHADOWING, shadow_percent=30)
FIRST_STEP = rolling(Phase.STEPPING, step=1, percent=20)
PROMOTING, SWAPPING = rolling(Phase.PROMOTING), rolling(Phase.SWAPPING)
RUNNING = (VALIDATING, SHADOWING, FIRST_STEP, PROMOTING, SWAPPING)


def test_one_that_takes_all_at_once_is_validated_first_and_then_promoted():
    first = begin(OLD, AT_ONCE, READY, 1000.0)
    assert (first.phase, first.since) == (Phase.VALIDATING, 1000.0)
    waits = go_on(first, signs=Signs(wanted=1))
    assert (waits.phase, waits.message) == (Phase.VALIDATING, "0 of 1 replicas are ready")
    done = go_on(waits)
    assert (done.phase, done.percent, done.message) == (Phase.PROMOTED, 100, "")


def test_nothing_changes_without_news_not_even_the_object():
    done = go_on(VALIDATING)
    assert advance(done, AT_ONCE, READY, 2000.0)[0] is done


def test_the_rest_of_the_replicas_are_loaded_before_it_takes_all():
    waits = go_on(VALIDATING, signs=Signs(wanted=3, have=1))
    assert (waits.phase, waits.percent) == (Phase.PROMOTING, 0)
    assert waits.message == "1 of 3 replicas are ready"
    assert go_on(waits, signs=Signs(wanted=3, have=3)).phase is Phase.PROMOTED


def test_it_gets_its_shares_step_by_step_each_once_its_replicas_are_ready():
    step = go_on(VALIDATING, CANARY, Signs(wanted=4, have=1))
    assert (step.phase, step.step, step.percent, step.since) == (Phase.STEPPING, 1, 20, 1000.0)
    assert step.message == "0 of 50 requests; promote it to go on sooner"
    shown = Signs(wanted=4, have=1, old=Sample(200), new=Sample(50))
    assert advance(step, CANARY, shown, 1001.0)[1] == 1060.0
    assert (
        go_on(step, CANARY, shown, 1001.0).message == "nothing speaks against it; each step lasts 1m at least"
    )
    second = go_on(step, CANARY, shown, 1060.0)
    assert (second.step, second.percent, second.message) == (2, 20, "1 of 2 replicas are ready")
    second = go_on(second, CANARY, Signs(wanted=4, have=2), 1070.0)
    assert (second.percent, second.since) == (50, 1070.0), "it lasts from when it has its share"
    last = go_on(second, CANARY, replace(shown, have=2), 1130.0)
    assert (last.phase, last.percent) == (Phase.PROMOTING, 50), "a step of 100 is no canary"
    assert go_on(last, CANARY, replace(shown, have=4), 1131.0).phase is Phase.PROMOTED


def test_after_the_last_step_it_gets_all_though_that_is_not_written_down():
    wish = replace(CANARY, steps=(20,))
    assert go_on(FIRST_STEP, wish, FINE, 60.0).phase is Phase.PROMOTED


def test_steps_without_a_bar_are_gone_through_as_long_as_each_lasts():
    hasty = replace(CANARY, pause_seconds=0.0, bar=Bar(min_requests=0))
    assert go_on(VALIDATING, hasty).phase is Phase.PROMOTED


def test_the_share_that_is_provided_for_is_that_of_the_step_to_come():
    shares = [r.share_percent(CANARY.steps) for r in RUNNING]
    assert shares == [0, 30, 20, 100, 0]
    assert replace(FIRST_STEP, step=9).share_percent((20, 50)) == 50


def test_steps_that_were_made_smaller_hold_at_once():
    smaller = go_on(FIRST_STEP, replace(CANARY, steps=(5, 100)), READY)
    assert (smaller.step, smaller.percent) == (1, 5)
    assert go_on(FIRST_STEP, replace(CANARY, steps=(100,)), READY).phase is Phase.PROMOTED


def test_steps_that_are_taken_away_promote_nothing_that_has_not_gone_through_one():
    shorter = replace(CANARY, steps=(10, 30))
    third = replace(FIRST_STEP, step=3, percent=50)
    kept = go_on(third, shorter, READY)
    assert (kept.phase, kept.step, kept.percent) == (Phase.STEPPING, 2, 30)
    assert go_on(kept, shorter, FINE, 2000.0).phase is Phase.PROMOTED


def test_shadow_comes_first_and_lasts_until_enough_answers_were_compared():
    wish = replace(CANARY, shadow_percent=30)
    shadow = go_on(VALIDATING, wish)
    assert (shadow.phase, shadow.percent, shadow.shadow_percent) == (Phase.SHADOWING, 0, 30)
    assert shadow.message == "0 of 50 compared answers; promote it to go on sooner"
    seen = replace(READY, new=Sample(compared=50, differed=1))
    assert go_on(shadow, wish, seen, 1059.0).phase is Phase.SHADOWING
    step = go_on(shadow, wish, seen, 1060.0)
    assert (step.phase, step.step, step.percent, step.shadow_percent) == (Phase.STEPPING, 1, 20, 0)


def test_another_shadow_holds_at_once_and_none_ends_it():
    assert go_on(SHADOWING, replace(CANARY, shadow_percent=5), READY).shadow_percent == 5
    assert go_on(SHADOWING, CANARY, READY).phase is Phase.STEPPING


@pytest.mark.parametrize("rollout", [VALIDATING, SHADOWING, FIRST_STEP, PROMOTING, SWAPPING])
def test_what_its_host_refuses_is_rejected_at_once_with_reason_and_message(rollout):
    signs = Signs(wanted=1, failure=BROKEN)
    ended = go_on(rollout, replace(CANARY, shadow_percent=30), signs)
    assert (ended.phase, ended.percent, ended.shadow_percent) == (Phase.REJECTED, 0, 0)
    assert (ended.reason, ended.message) == BROKEN
    assert ended.serving == OLD
    assert not ended.running


@pytest.mark.parametrize("reason", ["Unreachable", "Unauthorized", "DiskFull", "HostUnschedulable"])
def test_what_passes_is_tried_again_and_said(reason):
    waits = go_on(VALIDATING, signs=Signs(wanted=1, failure=(reason, "no answer")))
    assert waits.phase is Phase.VALIDATING
    assert waits.message == f"it is tried again, as it failed: {reason}: no answer"


@pytest.mark.parametrize("rollout", [SHADOWING, FIRST_STEP, PROMOTING])
def test_one_that_does_worse_gets_nothing_from_the_next_state_on(rollout):
    ended = go_on(rollout, replace(CANARY, shadow_percent=30), replace(FAILS, wanted=2))
    assert (ended.phase, ended.reason, ended.percent) == (Phase.REJECTED, "Worse", 0)
    assert ended.message == "20 of its 20 requests failed, and 0 of 200 of the old revision"


def test_one_that_does_worse_is_not_brought_back_by_time_nor_by_better_signs():
    ended = go_on(FIRST_STEP, CANARY, FAILS)
    assert advance(ended, CANARY, FINE, 9000.0) == (ended, None)


MEASURED = replace(AT_ONCE, bar=Bar(min_accuracy_percent=97))


def test_one_that_must_be_accurate_waits_until_that_was_measured():
    waits = go_on(VALIDATING, MEASURED)
    assert (waits.phase, waits.percent) == (Phase.VALIDATING, 0)
    assert "lull evaluate --record" in waits.message
    assert go_on(waits, MEASURED, replace(READY, accuracy_percent=97.0)).phase is Phase.PROMOTED
    ended = go_on(waits, MEASURED, replace(READY, accuracy_percent=96.9))
    assert (ended.phase, ended.reason) == (Phase.REJECTED, "Inaccurate")
    assert ended.message == "its accuracy is 96.9%, and analysis.minAccuracyPercent is 97%"
    assert go_on(waits, promoted_by_hand(MEASURED)).phase is Phase.PROMOTED


def test_without_room_beside_the_old_one_it_takes_its_place_after_a_while():
    waits, due_at = advance(VALIDATING, AT_ONCE, replace(FULL, no_room_seconds=29.0), 1000.0)
    assert (waits.phase, due_at) == (Phase.VALIDATING, 1001.0)
    assert (
        waits.message
        == "there is no room for it beside the old revision; after 30s it takes that one's place"
    )
    swap = go_on(waits, signs=FULL)
    assert (swap.phase, swap.percent, swap.serving) == (Phase.SWAPPING, 0, NEW)
    assert swap.message == "there is no room for both, so the old revision goes first"
    assert not swap.beside
    assert go_on(swap).phase is Phase.PROMOTED


@pytest.mark.parametrize("rollout", [SHADOWING, FIRST_STEP])
def test_one_whose_room_was_lost_takes_the_old_one_s_place_too(rollout):
    swap = go_on(rollout, replace(CANARY, shadow_percent=30), FULL)
    assert (swap.phase, swap.percent) == (Phase.SWAPPING, 0)


def test_one_that_may_not_go_on_unmeasured_does_not_take_the_old_one_s_place():
    waits = go_on(VALIDATING, MEASURED, FULL)
    assert waits.phase is Phase.VALIDATING
    assert "cannot be evaluated" in waits.message
    assert go_on(waits, promoted_by_hand(MEASURED), FULL).phase is Phase.SWAPPING


def test_a_swap_that_fails_for_now_is_undone_and_not_tried_again_at_the_old_one_s_cost():
    undone = go_on(SWAPPING, signs=Signs(wanted=1, failure=("Unreachable", "no answer")))
    assert (undone.phase, undone.serving, undone.reason) == (Phase.VALIDATING, OLD, "Unreachable")
    assert undone.message == "it is tried again, as it failed: Unreachable: no answer"
    for signs in (FULL, Signs()):
        assert go_on(undone, signs=signs).phase is Phase.VALIDATING
    assert "not swapped in again, as it failed: Unreachable" in go_on(undone, signs=FULL).message
    done = go_on(undone)
    assert (done.phase, done.reason) == (Phase.PROMOTED, "")


@pytest.mark.parametrize("rollout", [VALIDATING, SHADOWING, FIRST_STEP])
def test_beside_an_old_one_that_fails_it_takes_all_at_once_as_nobody_else_answers(rollout):
    wish = replace(CANARY, shadow_percent=30)
    assert go_on(rollout, wish, replace(READY, stable_lost=True)).phase is Phase.PROMOTED
    swap = go_on(rollout, wish, Signs(stable_lost=True))
    assert (swap.phase, swap.percent, swap.serving) == (Phase.SWAPPING, 0, NEW)
    assert go_on(swap, wish, Signs(failure=BROKEN)).phase is Phase.REJECTED


@pytest.mark.parametrize("rollout", [VALIDATING, SHADOWING, FIRST_STEP])
def test_its_user_need_not_wait_for_a_service_that_sleeps(rollout):
    assert go_on(rollout, promoted_by_hand(CANARY), Signs()).phase is Phase.SWAPPING


def test_an_old_one_that_fails_spares_no_evaluation_and_none_that_failed_before_is_swapped_in_again():
    failing = Signs(stable_lost=True)
    assert go_on(VALIDATING, MEASURED, failing).phase is Phase.VALIDATING
    assert go_on(VALIDATING, MEASURED, replace(READY, stable_lost=True)).phase is Phase.VALIDATING
    assert go_on(replace(VALIDATING, reason="Unreachable"), CANARY, failing).phase is Phase.VALIDATING


def test_a_step_without_room_for_more_replicas_goes_on_with_those_that_there_are():
    signs = Signs(wanted=10, have=1, no_room_seconds=30.0)
    step = replace(FIRST_STEP, percent=0)
    assert go_on(step, CANARY, replace(signs, no_room_seconds=1.0)).message == "there is no room for it yet"
    assert go_on(step, CANARY, signs).percent == 20


def test_one_that_takes_over_without_room_for_all_its_replicas_does_so_all_the_same():
    assert go_on(PROMOTING, signs=Signs(wanted=3, have=1, no_room_seconds=29.0)).phase is Phase.PROMOTING
    assert go_on(PROMOTING, signs=Signs(wanted=3, have=1, no_room_seconds=30.0)).phase is Phase.PROMOTED


def test_what_sleeps_is_replaced_by_the_next_wake_where_nobody_wants_to_see_anything_before():
    first = begin(OLD, AT_ONCE, Signs(), 1000.0)
    assert (first.phase, first.serving) == (Phase.SWAPPING, NEW)
    assert go_on(first, signs=Signs()).message == (
        "the next request loads it; the old revision comes back if it fails"
    )
    assert go_on(VALIDATING, signs=Signs()).phase is Phase.SWAPPING, "it fell asleep"
    known = Signs(accuracy_percent=98.0)
    assert begin(OLD, MEASURED, known, 1000.0).phase is Phase.VALIDATING
    assert go_on(VALIDATING, MEASURED, known).phase is Phase.SWAPPING


@pytest.mark.parametrize("wish", [CANARY, replace(AT_ONCE, shadow_percent=1), MEASURED])
def test_what_sleeps_waits_for_a_request_where_somebody_wants_to_see_it_at_work(wish):
    first = begin(OLD, wish, Signs(), 1000.0)
    assert first.phase is Phase.VALIDATING
    assert go_on(first, wish, Signs()).message == "the service sleeps; it goes on with the next request"
    assert go_on(first, promoted_by_hand(wish), Signs()).phase is Phase.SWAPPING


def test_what_falls_asleep_in_a_step_keeps_it():
    asleep = go_on(FIRST_STEP, CANARY, Signs())
    assert (asleep.phase, asleep.percent) == (Phase.STEPPING, 20)
    assert asleep.message == "the service sleeps; it goes on with the next request"
    assert go_on(PROMOTING, CANARY, Signs()).phase is Phase.PROMOTED


@pytest.mark.parametrize("rollout", [VALIDATING, SHADOWING, FIRST_STEP])
def test_its_user_may_promote_it_once_it_is_ready_whatever_was_seen(rollout):
    wish = promoted_by_hand(replace(CANARY, shadow_percent=30))
    assert go_on(rollout, wish, Signs(wanted=1)).phase is rollout.phase
    promoting = go_on(rollout, wish, replace(FAILS, wanted=2))
    assert (promoting.phase, promoting.percent) == (Phase.PROMOTING, rollout.percent)
    assert go_on(promoting, wish, replace(FAILS, wanted=2, have=2)).phase is Phase.PROMOTED


def test_its_user_may_revive_what_was_rejected_but_not_what_answers_wrongly():
    rejected = go_on(VALIDATING, CANARY, Signs(wanted=1, failure=("LoadFailed", "it crashed")))
    again = go_on(rejected, promoted_by_hand(CANARY), Signs(wanted=1))
    assert (again.phase, again.reason) == (Phase.VALIDATING, "LoadFailed")
    still = go_on(again, promoted_by_hand(CANARY), Signs(wanted=1, failure=("LoadFailed", "it crashed")))
    assert still.phase is Phase.VALIDATING, "it is tried again as long as its user says so"
    assert go_on(still, promoted_by_hand(CANARY), FULL).phase is Phase.VALIDATING, "nobody swaps for it"
    assert go_on(still, CANARY, Signs(wanted=1, failure=("LoadFailed", "it crashed"))).phase is Phase.REJECTED
    assert go_on(still, promoted_by_hand(CANARY)).phase is Phase.PROMOTED
    wrong = go_on(VALIDATING, promoted_by_hand(), Signs(wanted=1, failure=BROKEN))
    assert wrong.phase is Phase.REJECTED
    assert advance(wrong, promoted_by_hand(), READY, 2000.0)[0] is wrong


def test_a_swap_that_failed_is_revived_beside_the_old_one_alone():
    crashed = Signs(wanted=1, failure=("LoadFailed", "it crashed"))
    rejected = go_on(SWAPPING, CANARY, crashed)
    assert rejected.phase is Phase.REJECTED
    revived = go_on(SWAPPING, promoted_by_hand(), crashed)
    assert (revived.phase, revived.reason) == (Phase.VALIDATING, "LoadFailed")
    assert go_on(replace(SWAPPING, step=2), promoted_by_hand(), crashed).step == 0, "it begins anew"


@pytest.mark.parametrize("rollout", RUNNING)
def test_its_user_may_abort_it_and_promote_it_after_all(rollout):
    ended = go_on(rollout, replace(CANARY, command=("abort", NEW)))
    assert (ended.phase, ended.reason, ended.percent, ended.serving) == (Phase.ABORTED, "Aborted", 0, OLD)
    assert go_on(ended, promoted_by_hand(CANARY)).phase is Phase.PROMOTED


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_a_word_that_stood_there_before_it_began_is_about_an_earlier_one_of_that_revision(verb):
    stood = replace(CANARY, command=(verb, NEW))
    step = go_on(begin(OLD, stood, READY, 1000.0), stood)
    assert (step.phase, step.percent, step.heard) == (Phase.STEPPING, 20, (verb, NEW))
    ends = Phase.PROMOTED if verb == "promote" else Phase.ABORTED
    assert go_on(step, replace(stood, command=(verb, NEW, "again"))).phase is ends
    silent = go_on(step, CANARY)
    assert silent.heard is None
    assert go_on(silent, stood).phase is ends


def test_a_word_on_another_revision_is_none_that_it_could_have_heard():
    assert begin(OLD, replace(CANARY, command=("promote", OLD)), READY, 1000.0).heard is None


def test_a_word_on_another_revision_means_nothing():
    for verb in ("abort", "promote"):
        assert go_on(FIRST_STEP, replace(CANARY, command=(verb, OLD)), READY).phase is Phase.STEPPING
    done = go_on(VALIDATING, promoted_by_hand())
    for verb in ("abort", "promote"):
        assert advance(done, replace(AT_ONCE, command=(verb, NEW)), READY, 2000.0)[0] is done


@pytest.mark.parametrize("rollout", RUNNING)
def test_the_old_revision_in_the_spec_again_takes_it_back_and_the_new_one_then_begins_anew(rollout):
    back = go_on(rollout, Wish(OLD))
    assert (back.phase, back.reason, back.serving) == (Phase.ABORTED, TAKEN_BACK, OLD)
    again = go_on(back, CANARY, Signs(wanted=1), 2000.0)
    assert (again.phase, again.reason, again.since) == (Phase.VALIDATING, "", 2000.0)


def test_what_was_rejected_and_taken_back_still_says_why():
    rejected = go_on(FIRST_STEP, CANARY, FAILS)
    back = go_on(rejected, replace(CANARY, revision=OLD))
    assert (back.phase, back.reason) == (Phase.ABORTED, TAKEN_BACK)
    assert back.message.endswith(f"it was rejected: Worse: {rejected.message}")


def test_what_was_rejected_is_tried_again_only_after_another_revision():
    ended = go_on(FIRST_STEP, CANARY, FAILS)
    assert go_on(ended, CANARY).phase is Phase.REJECTED
    back = go_on(ended, Wish(OLD))
    assert go_on(back, CANARY, Signs(wanted=1)).phase is Phase.VALIDATING


@pytest.mark.parametrize("rollout", [*RUNNING, rolling(Phase.REJECTED, reason="Worse")])
def test_a_third_revision_is_the_candidate_at_once_beside_what_served_before(rollout):
    fresh = go_on(rollout, replace(CANARY, revision=THIRD), Signs(wanted=1))
    assert (fresh.stable, fresh.candidate, fresh.phase) == (OLD, THIRD, Phase.VALIDATING)
    assert (fresh.percent, fresh.shadow_percent, fresh.reason) == (0, 0, "")


def test_signs_of_a_former_candidate_are_not_taken_for_the_next_one_s():
    fresh, _ = advance(FIRST_STEP, replace(AT_ONCE, revision=THIRD), FINE, 2000.0)
    assert fresh.phase is Phase.VALIDATING
    asleep, _ = advance(FIRST_STEP, replace(AT_ONCE, revision=THIRD), Signs(failure=BROKEN), 2000.0)
    assert asleep.phase is Phase.SWAPPING


def test_after_it_took_over_the_next_one_is_rolled_out_beside_it_the_former_too():
    done = go_on(VALIDATING)
    for revision in (THIRD, OLD):
        fresh = go_on(done, replace(CANARY, revision=revision), Signs(wanted=1))
        assert (fresh.stable, fresh.candidate, fresh.phase) == (NEW, revision, Phase.VALIDATING)


def test_who_is_in_the_fleet_beside_whom_and_who_serves():
    assert [r.beside for r in RUNNING] == [True, True, True, True, False]
    ended = [rolling(phase) for phase in (Phase.PROMOTED, Phase.REJECTED, Phase.ABORTED)]
    assert not any(r.beside or r.running for r in ended)
    assert [r.serving for r in RUNNING] == [OLD, OLD, OLD, OLD, NEW]
    assert rolling(Phase.PROMOTED).serving == NEW
    assert rolling(Phase.ABORTED).serving == OLD


def test_what_was_seen_in_one_step_does_not_count_for_the_next():
    hasty = replace(CANARY, pause_seconds=0.0, shadow_percent=30)
    second, _ = advance(FIRST_STEP, hasty, FINE, 1000.0)
    assert (second.phase, second.step, second.percent) == (Phase.STEPPING, 2, 50)
    assert second.message == "0 of 50 requests; promote it to go on sooner"
    compared = replace(FINE, new=Sample(50, compared=50))
    first, _ = advance(SHADOWING, hasty, compared, 1000.0)
    assert (first.phase, first.step, first.percent) == (Phase.STEPPING, 1, 20)


def test_its_user_may_promote_it_whatever_accuracy_was_measured():
    poor = replace(READY, accuracy_percent=90.0)
    assert go_on(VALIDATING, promoted_by_hand(MEASURED), poor).phase is Phase.PROMOTED
    assert go_on(VALIDATING, promoted_by_hand(MEASURED), replace(FULL, accuracy_percent=90.0)).phase is (
        Phase.SWAPPING
    )
