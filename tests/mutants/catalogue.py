"""Ways to break the effect protocol, each with the test that must notice.

A mutant is a textual change of named files. Its text is found exactly once in each, or the catalogue is out of
date.
"""

from __future__ import annotations

from dataclasses import dataclass

CLAIMS = "ledger/holdfast_ledger/schema/0004_claims.sql"
RECORDS = "ledger/holdfast_ledger/schema/0005_records.sql"
OPERATIONS = "ledger/holdfast_ledger/schema/0007_operations.sql"
CHAIN = "ledger/holdfast_ledger/schema/0002_chain.sql"
SESSIONS = "ledger/holdfast_ledger/schema/0003_sessions.sql"
SAGAS = "ledger/holdfast_ledger/schema/0011_sagas.sql"
PEOPLE = "ledger/holdfast_ledger/schema/0013_saga_people.sql"
GATES = "ledger/holdfast_ledger/schema/0016_gates.sql"
CLAIMING = "ledger/holdfast_ledger/claims.py"
EXECUTE = "activities/holdfast_activities/execute_call.py"
ATTEMPT = "activities/holdfast_activities/calls/attempt.py"
CONTEXT = "activities/holdfast_activities/calls/context.py"
PROBING = "activities/holdfast_activities/calls/probing.py"
ENDINGS = "activities/holdfast_activities/calls/endings.py"
RUNNING = "activities/holdfast_activities/calls/running.py"

CRASHES = "tests/protocol/test_crashes.py::"
STALLS = "tests/protocol/test_stalls.py::"
LEFT = "tests/ledger/test_left_in_doubt.py::"
TEST_CLAIMS = "tests/ledger/test_claims.py::"
TEST_RECORDS = "tests/ledger/test_records.py::"
TEST_FACTS = "tests/ledger/test_facts.py::"
TEST_SAGAS = "tests/ledger/test_sagas.py::"
TEST_OPERATIONS = "tests/ledger/test_operations.py::"
TEST_PEOPLE = "tests/ledger/test_saga_people.py::"
TEST_RULE = "tests/activities/tools/test_failure_rule.py::"
TEST_STOP = "tests/activities/tools/test_cancellation.py::"


@dataclass(frozen=True)
class Change:
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """`test` is a pytest node id, or one without its parameters: then any of them may notice."""

    name: str
    test: str
    changes: tuple[Change, ...]


def _mutant(name: str, test: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, test, (Change(file, old, new),))


MUTANTS = (
    _mutant(
        "the claim is dropped",
        CRASHES + "test_a_lost_completion_asks_nobody_again",
        EXECUTE,
        "        claimed = await self._ledger.claim(claim)\n        if isinstance(",
        "        claimed = Granted(token=1, attempt=1, args=b'{\"n\": 1}')\n        if isinstance(",
    ),
    _mutant(
        "the intent entry is not in the claim's transaction",
        CRASHES + "test_a_crash_after_the_record_asks_nobody_again",
        CLAIMS,
        "    IF v.verdict = 'granted' THEN\n        PERFORM holdfast.append(",
        "    IF false THEN\n        PERFORM holdfast.append(",
    ),
    _mutant(
        "a live lease is ignored",
        TEST_CLAIMS + "test_a_live_lease_says_when_to_ask_again",
        CLAIMS,
        "    IF e.lease_until > now AND (e.recovery <> 'retry' OR exhausted) THEN",
        "    IF false THEN",
    ),
    Mutant(
        "the lease is judged on the worker's clock",
        STALLS + "test_a_workers_clock_an_hour_off_changes_no_lease",
        (
            Change(CLAIMING, "import asyncio\n", "import asyncio\nimport time\n"),
            Change(CLAIMING, '{"worker": wanted.worker}', '{"worker": wanted.worker, "clock": time.time()}'),
            Change(
                CLAIMS,
                "    now := clock_timestamp();  -- behind the lock\n",
                "    now := to_timestamp((convert_from(p_intent, 'UTF8')::json->>'clock')::float8);\n",
            ),
        ),
    ),
    _mutant(
        "a lost attempt is not in doubt",
        CRASHES + "test_a_crash_after_the_service_committed_never_makes_a_second_effect",
        CLAIMS,
        "    in_doubt := e.doubt OR e.state = 'CLAIMED' AND e.recovery NOT IN ('retry', 'transactional');",
        "    in_doubt := e.doubt;",
    ),
    _mutant(
        "an operator's call in doubt is sent again",
        CRASHES + "test_a_crash_before_the_record_commits_never_makes_a_second_effect",
        CLAIMS,
        "        e.recovery = 'operator' AND",
        "        false AND",
    ),
    _mutant(
        "a person's one more attempt is any number of them",
        LEFT + "test_a_retry_permits_one_attempt_and_forgets_nothing_of_those_before",
        CLAIMS,
        "e.attempts_used > 0 OR",
        "false OR",
    ),
    _mutant(
        "a person's one more attempt answers for those before",
        LEFT + "test_a_permitted_attempt_that_fails_cleanly_does_not_answer_for_the_first",
        OPERATIONS,
        "        doubt = new_state = 'OPEN' AND NOT coalesce((p->>'key_refused')::boolean, false),",
        "        doubt = false,",
    ),
    _mutant(
        "a call that may have landed is denied",
        "tests/ledger/test_refusals.py::test_an_effect_in_doubt_waits_for_the_breaker_and_is_not_refused",
        CLAIMS,
        "    ELSIF v.verdict IS NOT NULL AND in_doubt THEN\n        -- It was sent",
        "    ELSIF false THEN\n        -- It was sent",
    ),
    _mutant(
        "a key is sent beyond its life",
        CRASHES + "test_a_key_the_service_forgot_is_not_sent_again",
        CLAIMS,
        "        OR e.recovery = 'idempotent' AND now >",
        "        OR false AND now >",
    ),
    _mutant(
        "nobody asks the probe",
        CRASHES + "test_a_crash_after_the_service_committed_never_makes_a_second_effect",
        CLAIMS,
        "e.attempts_used + 1, in_doubt AND e.recovery = 'probe',",
        "e.attempts_used + 1, false,",
    ),
    _mutant(
        "any no of the probe permits another send",
        TEST_RULE + "test_only_a_final_no_of_the_probe_permits_another_send",
        PROBING,
        "        return isinstance(self.answer, DidNotHappen) and self.answer.final",
        "        return isinstance(self.answer, DidNotHappen)",
    ),
    _mutant(
        "the key changes with the attempt",
        CRASHES + "test_a_crash_after_the_service_committed_never_makes_a_second_effect",
        CONTEXT,
        "        idempotency_key=key,\n",
        '        idempotency_key=f"{key}:{around.now().timestamp()}",\n',
    ),
    _mutant(
        "a claim whose answer was lost is not recognised",
        TEST_CLAIMS + "test_a_claim_whose_answer_was_lost_is_the_same_grant_when_asked_again",
        CLAIMS,
        "    IF e.state = 'CLAIMED' AND e.nonce = c.nonce THEN",
        "    IF false THEN",
    ),
    _mutant(
        "the fence is skipped: a stale claim dispatches",
        STALLS + "test_a_claim_older_than_a_second_dispatches_nothing_and_uses_no_attempt",
        ATTEMPT,
        "            if time.monotonic() - self.claimed_at > DISPATCH_WITHIN.total_seconds():",
        "            if False:",
    ),
    _mutant(
        "a record goes by effect, not by token",
        TEST_CLAIMS + "test_a_retry_class_takes_the_next_token_at_once_and_the_old_one_is_refused",
        RECORDS,
        "    IF e.state <> 'CLAIMED' OR e.token <> r.token THEN\n        standing :=",
        "    IF e.state <> 'CLAIMED' THEN\n        standing :=",
    ),
    _mutant(
        "a renewal goes by effect, not by token",
        TEST_CLAIMS + "test_a_retry_class_takes_the_next_token_at_once_and_the_old_one_is_refused",
        CLAIMS,
        "    WHERE effect_id = p_effect_id AND token = p_token AND state = 'CLAIMED';",
        "    WHERE effect_id = p_effect_id AND state = 'CLAIMED';",
    ),
    _mutant(
        "a refused record does not roll its transaction back",
        STALLS + "test_two_workers_that_hold_the_same_attempt_have_one_effect",
        ATTEMPT,
        "                    raise _NotAccepted(recorded)\n",
        "                    pass\n",
    ),
    _mutant(
        "an uncaught exception is a clean failure",
        TEST_RULE + "test_one_attempt_ends_as_its_class_permits",
        ENDINGS,
        "    if clean:\n        return _clean(",
        "    if True:\n        return _clean(",
    ),
    _mutant(
        "doubt is forgotten at the next record",
        TEST_RECORDS + "test_a_budget_that_ends_cleanly_is_unknown_where_an_earlier_attempt_may_have_landed",
        RECORDS,
        "    in_doubt := e.doubt OR r.state = 'OPEN'",
        "    in_doubt := r.state = 'OPEN'",
    ),
    _mutant(
        "a later clean failure settles an earlier doubt",
        CRASHES + "test_a_later_clean_failure_says_nothing_of_an_attempt_that_may_have_landed",
        RECORDS,
        "        WHEN r.state = 'FAILED' AND in_doubt AND NOT coalesce(r.final, false) THEN 'UNKNOWN'\n",
        "",
    ),
    _mutant(
        "an end of the request hides doubt",
        CRASHES + "test_a_request_that_ended_meanwhile_sends_nothing_and_hides_no_doubt",
        CLAIMS,
        "    ELSIF v.verdict IS NOT NULL AND in_doubt AND c.kind <> 'undo' AND v.code <> 'unwinding' THEN",
        "    ELSIF false THEN",
    ),
    _mutant(
        "cancelling hides doubt",
        CRASHES + "test_cancelling_a_call_that_may_have_landed_leaves_its_doubt",
        SESSIONS,
        "AND e.state = 'OPEN' AND e.kind = 'call' AND NOT e.doubt\n",
        "AND e.state = 'OPEN' AND e.kind = 'call'\n",
    ),
    _mutant(
        "an unknown effect is sent again",
        TEST_CLAIMS + "test_an_operators_lost_attempt_is_unknown_and_never_sent_again",
        CLAIMS,
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED') THEN",
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED', 'UNKNOWN') THEN",
    ),
    _mutant(
        "a cancelled effect is dispatched",
        CRASHES + "test_a_cancelled_call_is_never_dispatched",
        CLAIMS,
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED') THEN",
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED', 'CANCELLED') THEN",
    ),
    _mutant(
        "a recorded answer is asked for again",
        "tests/activities/model_turn/test_turns.py::test_a_recorded_answer_makes_no_second_request",
        CLAIMS,
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED') THEN",
        "    ELSIF e.state NOT IN ('OPEN', 'CLAIMED', 'DONE') THEN",
    ),
    _mutant(
        "the fingerprint is not compared",
        TEST_CLAIMS + "test_another_fingerprint_is_a_conflict",
        CLAIMS,
        "    IF e.fingerprint <> c.fingerprint THEN",
        "    IF false THEN",
    ),
    _mutant(
        "a release counts as an attempt",
        TEST_RECORDS + "test_a_release_before_dispatch_uses_up_no_attempt",
        RECORDS,
        "attempts_used - CASE WHEN r.dispatched IS FALSE THEN 1 ELSE 0 END",
        "attempts_used",
    ),
    _mutant(
        "an attempt that was stopped dispatches",
        STALLS + "test_a_healthy_call_is_never_unknown_for_being_stopped",
        ATTEMPT,
        "if halt.reason is not None:\n                    return endings.released(halt.reason)\n",
        "pass\n",
    ),
    _mutant(
        "a cancel cuts a dispatched write off",
        TEST_STOP + "test_a_dispatched_write_finishes_and_is_recorded_whoever_cancels",
        RUNNING,
        " = {running} if writes else {running, halt.called}",
        " = {running, halt.called}",
    ),
    _mutant(
        "an approval is usable twice",
        TEST_FACTS + "test_a_decision_is_used_by_one_effect",
        GATES,
        "        RETURN CASE WHEN a.consumed_by <> c.effect_id THEN",
        "        RETURN CASE WHEN false THEN",
    ),
    _mutant(
        "an approval counts for any call and arguments",
        TEST_FACTS + "test_a_decision_counts_for_the_call_and_arguments_it_was_made_for_only",
        GATES,
        "AND o.decision = c.decision AND o.call = c.call AND o.digest = c.fingerprint\n",
        "AND o.decision = c.decision\n",
    ),
    _mutant(
        "`use_within` is ignored",
        TEST_FACTS + "test_a_decision_too_old_at_the_first_claim_is_expired",
        GATES,
        "    ELSIF now > a.decided_at + coalesce(c.use_within, a.use_within) THEN",
        "    ELSIF false THEN",
    ),
    _mutant(
        "the kill switch is ignored",
        TEST_CLAIMS + "test_the_kill_switch_stops_the_next_dispatch",
        GATES,
        "    WHERE s.tool = c.tool OR s.tool = '*' AND",
        "    WHERE false AND s.tool = c.tool OR false AND",
    ),
    _mutant(
        "the saga's state is ignored",
        TEST_CLAIMS + "test_a_claim_is_fenced_by_its_saga",
        CLAIMS,
        "    ELSIF saga_state IS NULL OR saga_state <> ALL (CASE",
        "    ELSIF saga_state IS NULL OR false AND saga_state <> ALL (CASE",
    ),
    _mutant(
        "the saga's epoch is ignored",
        TEST_CLAIMS + "test_a_claim_is_fenced_by_its_saga",
        CLAIMS,
        "    ELSIF saga_epoch <> c.saga_epoch THEN",
        "    ELSIF false THEN",
    ),
    _mutant(
        "a request commits with open effects",
        "tests/ledger/test_turns.py::test_a_saga_with_an_unsettled_effect_is_not_committed",
        RECORDS,
        "AND e.state IN ('OPEN', 'CLAIMED', 'UNKNOWN')\n",
        "AND false\n",
    ),
    _mutant(
        "an unwind leaves the epoch as it is",
        TEST_SAGAS + "test_the_older_of_two_unwinders_is_fenced",
        SAGAS,
        "state = 'UNWINDING', goal = 'unwind', epoch = epoch + 1,",
        "state = 'UNWINDING', goal = 'unwind',",
    ),
    _mutant(
        "an unwind leaves what was not dispatched",
        TEST_SAGAS + "test_an_unwinding_raises_the_epoch_and_tombstones_what_was_not_dispatched",
        SAGAS,
        "    PERFORM holdfast.cancel_open_effects(of_saga);\n    UPDATE holdfast.saga SET\n",
        "    UPDATE holdfast.saga SET\n",
    ),
    _mutant(
        "a step is undone while another may still land",
        TEST_SAGAS + "test_nothing_is_undone_while_another_step_may_still_land",
        SAGAS,
        "CASE WHEN FOUND THEN holdfast.refused('not_settled', format('step %s may still land',",
        "CASE WHEN false THEN holdfast.refused('not_settled', format('step %s may still land',",
    ),
    _mutant(
        "a step is undone before it is settled",
        TEST_SAGAS + "test_a_step_is_undone_only_when_it_is_known_to_stand",
        SAGAS,
        "OR f.waived IS NOT NULL OR f.state <> wanted THEN",
        "OR f.waived IS NOT NULL THEN",
    ),
    _mutant(
        "a saga is aborted although something stands",
        TEST_SAGAS + "test_a_saga_is_not_aborted_while_something_stands",
        SAGAS,
        "        AND NOT (wanted = 'ABORTED' AND holdfast.stands(g.id))\n",
        "",
    ),
    _mutant(
        "a doubtful step does not stand",
        TEST_SAGAS + "test_a_saga_is_not_aborted_while_something_stands",
        SAGAS,
        "e.waived IS NULL AND (e.state IN ('UNKNOWN', 'DONE') OR",
        "e.waived IS NULL AND (e.state IN ('DONE') OR",
    ),
    _mutant(
        "what lands late after an abort is forgotten",
        TEST_SAGAS + "test_a_step_that_lands_late_is_recorded_so_and_the_unwind_goes_on",
        SAGAS,
        "    IF e.tier = 'read' OR g.state <> 'HELD' AND NOT (late AND g.state = 'ABORTED') THEN",
        "    IF e.tier = 'read' OR g.state <> 'HELD' THEN",
    ),
    _mutant(
        "a pivot does not end what can be undone",
        TEST_PEOPLE + "test_a_pivot_and_an_unwind_that_race_agree_on_who_was_first",
        SAGAS,
        "        (g.passed_pivot_at IS NOT NULL, 'pivot', format(",
        "        (false, 'pivot', format(",
    ),
    _mutant(
        "an undo counts as a call",
        TEST_SAGAS + "test_a_compensation_is_billed_and_is_no_call",
        RECORDS,
        "        SET calls = calls + CASE e.kind WHEN 'call' THEN 1 ELSE 0 END,",
        "        SET calls = calls + 1,",
    ),
    _mutant(
        "a stopped tool is undone with all the same",
        TEST_SAGAS + "test_a_stopped_tool_makes_its_undo_wait_and_never_fail",
        GATES,
        "    ELSE\n        v := holdfast.closed_gate(c, now);",
        "    ELSIF c.kind = 'call' THEN\n        v := holdfast.closed_gate(c, now);",
    ),
    _mutant(
        "an unwind that looks for the truth uses a person's leave to try again",
        TEST_SAGAS + "test_an_operators_step_that_a_person_reopened_is_not_sent_to_find_out",
        CLAIMS,
        "e.recovery = 'operator' AND (e.attempts_used > 0 OR coalesce(c.settles, false))",
        "e.recovery = 'operator' AND e.attempts_used > 0",
    ),
    _mutant(
        "a step that lands late leaves its saga held for it",
        TEST_SAGAS + "test_an_unwind_that_was_held_for_a_doubt_goes_on_when_the_step_lands_late",
        SAGAS,
        "        ended := holdfast.judge_again(g);",
        "        ended := false;",
    ),
    _mutant(
        "a request that ended over a running call is not judged again",
        TEST_OPERATIONS + "test_a_request_that_ended_over_a_running_call_is_judged_again_when_it_lands",
        SAGAS,
        " OR g.state = 'HELD' AND e.kind = 'call'",
        "",
    ),
    _mutant(
        "a saga commits in doubt",
        TEST_PEOPLE + "test_a_saga_in_doubt_is_held_where_it_would_commit",
        PEOPLE,
        "            wanted := 'HELD';\n",
        "",
    ),
    _mutant(
        "a resolution is not in the ledger",
        TEST_PEOPLE + "test_what_a_person_says_stands_in_the_ledger_once_with_author_and_reason",
        PEOPLE,
        "            s_key, g.id, 'saga_resolved', told_as, what, p_body,",
        "            s_key, g.id, 'saga_moved', told_as, what, p_body,",
    ),
    _mutant(
        "an unwinder sends what its probe says never happened",
        "tests/activities/sagas/test_compensations.py::"
        "test_a_step_in_doubt_is_asked_about_and_never_sent_by_its_unwinder",
        ATTEMPT,
        "        if self.claim.settle_tries is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "facts have no dedupe key",
        TEST_FACTS + "test_the_same_fact_twice_is_one_entry",
        (
            Change(
                CHAIN,
                "    PRIMARY KEY (session_key, seq),\n    UNIQUE (session_key, fact_key)\n",
                "    PRIMARY KEY (session_key, seq)\n",
            ),
            Change(
                CHAIN,
                "    IF NOT is_new AND holdfast.known(",
                "    IF false AND holdfast.known(",
            ),
        ),
    ),
)
