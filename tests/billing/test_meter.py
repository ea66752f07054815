"""I1 as arithmetic: whatever happens to a call, what is billed and what is not adds up to what the worker reported."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from calls import WORKER, finished, identity, tariff
from museway_billing.meter import Meter, Reported, from_slot
from museway_billing.prices import cost, priced_lines
from museway_billing.usage import State, UsageRecord

TOKENS = st.integers(0, 200_000)
OUTCOMES = st.sampled_from(State)


@st.composite
def reports(draw: st.DrawFn) -> Reported:
    prompt = draw(TOKENS)
    return prompt, draw(st.integers(0, prompt)), draw(TOKENS), draw(TOKENS)


@st.composite
def endings(draw: st.DrawFn) -> tuple[Meter, tuple[int, int], Reported | None, UsageRecord]:
    """A meter with what was delivered, the worker's last word, and the record."""
    call = identity(
        1,
        priced_prompt=draw(st.none() | TOKENS),
        policy_cached=draw(TOKENS),
        internal=draw(st.booleans()),
    )
    meter = Meter(call)
    reported = draw(st.none() | reports())
    if draw(st.booleans()):
        prompt = draw(TOKENS)
        meter.prompt(prompt, draw(st.integers(0, prompt)))
    delivered = (0, 0)
    for _ in range(draw(st.integers(0, 3))):
        delivered = (delivered[0] + draw(TOKENS), delivered[1] + draw(TOKENS))
        meter.delivered(*delivered)
    if draw(st.booleans()):
        meter.delivered(-1, -1)
    made = meter.finish(
        draw(OUTCOMES),
        reported,
        worker=draw(st.sampled_from([None, WORKER])),
        ended=call.created,
        credit=draw(st.booleans()),
        stopped=draw(st.booleans()),
        covered=draw(st.none() | TOKENS),
    )
    return meter, delivered, reported, made


@given(endings())
def test_every_token_once(ending: tuple[Meter, tuple[int, int], Reported | None, UsageRecord]) -> None:
    _, _, reported, made = ending
    if reported is not None and made.unbilled is not None and made.reasoning is not None and made.output is not None:
        if made.worker is not None:
            assert made.reasoning + made.output + made.unbilled == reported[2] + reported[3]
    for count in (made.input, made.cached_input, made.reasoning, made.output, made.unbilled):
        assert count is None or count >= 0


@given(endings())
def test_the_amount_is_the_sum_of_its_lines_and_the_lines_are_its_counts(
    ending: tuple[Meter, tuple[int, int], Reported | None, UsageRecord],
) -> None:
    meter, _, _, made = ending
    assert made.amount_nano_usd == sum(line.amount_nano_usd for line in made.lines)
    counts = {
        "input": made.input or 0,
        "cached_input": made.cached_input or 0,
        "reasoning": made.reasoning or 0,
        "output": made.output or 0,
    }
    assert made.lines == priced_lines(meter.identity.tariff, **counts)
    assert made.credited_nano_usd in (0, made.amount_nano_usd)


@given(endings())
def test_an_unknown_count_is_never_charged_and_never_a_number(
    ending: tuple[Meter, tuple[int, int], Reported | None, UsageRecord],
) -> None:
    _, _, _, made = ending
    unknown = [made.input, made.cached_input, made.reasoning, made.output].count(None)
    assert unknown == 0 or made.state is State.UNKNOWN
    if made.state is State.FAILED:
        assert made.amount_nano_usd == 0
        assert (made.input, made.cached_input, made.reasoning, made.output) == (0, 0, 0, 0)


@given(
    delivered=st.tuples(TOKENS, TOKENS),
    reported=reports(),
    covered=st.none() | TOKENS,
    internal=st.booleans(),
)
@example(delivered=(0, 50), reported=(10, 0, 20, 30), covered=None, internal=False)
def test_a_stopped_call_is_billed_between_delivered_and_reported(
    delivered: tuple[int, int], reported: Reported, covered: int | None, internal: bool
) -> None:
    meter = Meter(identity(1, internal=internal))
    meter.delivered(*delivered)
    made = meter.finish(State.COMPLETE, reported, worker=WORKER, ended=0, stopped=True, covered=covered)
    assert made.reasoning is not None and made.output is not None
    billed = made.reasoning + made.output
    most = reported[2] + reported[3]
    assert billed == min(sum(delivered), most, most if covered is None else covered)
    assert made.reasoning <= reported[2] and made.output <= reported[3]


@given(reported=reports(), priced=st.none() | TOKENS, policy=TOKENS)
def test_the_prompt_is_charged_by_policy_or_by_luck_whichever_is_less(
    reported: Reported, priced: int | None, policy: int
) -> None:
    made = finished(identity(1, priced_prompt=priced, policy_cached=policy), reported)
    charged = reported[0] if priced is None else priced
    assert made.input is not None and made.cached_input is not None
    assert made.input + made.cached_input == charged
    assert made.cached_input == min(charged, max(policy, reported[1]))
    assert (made.measured_input, made.measured_cached) == (reported[0] - reported[1], reported[1])


def test_a_call_that_ran_to_its_end_is_billed_as_reported() -> None:
    made = finished(identity(1), (120, 20, 300, 80))
    assert (made.state, made.reasoning, made.output, made.unbilled) == (State.COMPLETE, 300, 80, 0)
    assert made.amount_nano_usd == cost(tariff(), input=100, cached_input=20, reasoning=300, output=80)


def test_a_stop_whose_end_nobody_saw_leaves_unbilled_unknown() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 20)
    meter.delivered(0, 40)
    made = meter.finish(State.INTERRUPTED, None, worker=WORKER, ended=0)
    assert (made.state, made.input, made.output, made.unbilled) == (State.INTERRUPTED, 100, 40, None)


def test_a_client_that_leaves_before_the_worker_spoke_pays_nothing() -> None:
    made = Meter(identity(1)).finish(State.INTERRUPTED, None, worker=WORKER, ended=0)
    assert (made.input, made.cached_input, made.output, made.amount_nano_usd) == (0, 0, 0, 0)
    assert (made.measured_input, made.unbilled) == (None, None)


def test_a_client_that_leaves_after_the_prompt_was_read_pays_the_prompt() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 20)
    made = meter.finish(State.INTERRUPTED, None, worker=WORKER, ended=0)
    assert (made.input, made.cached_input, made.output) == (100, 20, 0)


def test_a_failure_of_ours_costs_nothing_not_even_the_prompt() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 20)
    made = meter.finish(State.FAILED, None, worker=WORKER, ended=0)
    assert (made.state, made.input, made.amount_nano_usd, made.unbilled) == (State.FAILED, 0, 0, None)
    assert made.measured_input == 100


def test_a_call_that_was_never_dispatched_made_nothing() -> None:
    assert Meter(identity(1)).finish(State.FAILED, None, worker=None, ended=0).unbilled == 0


def test_text_that_left_is_no_failure() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 0)
    meter.delivered(0, 40)
    made = meter.finish(State.FAILED, None, worker=WORKER, ended=0, credit=True)
    assert (made.state, made.output) == (State.INTERRUPTED, 40)
    assert made.credited_nano_usd == made.amount_nano_usd > 0


def test_text_without_any_count_is_unknown_and_waits_uncharged() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 0)
    meter.delivered(-1, -1)
    made = meter.finish(State.INTERRUPTED, None, worker=WORKER, ended=0)
    assert (made.state, made.reasoning, made.output, made.unbilled) == (State.UNKNOWN, None, None, None)
    assert made.amount_nano_usd == cost(tariff(), input=120)


def test_a_later_count_covers_what_left_uncounted() -> None:
    meter = Meter(identity(1))
    meter.prompt(120, 0)
    meter.delivered(-1, -1)
    meter.delivered(0, 9)
    assert meter.finish(State.INTERRUPTED, None, worker=WORKER, ended=0).output == 9


def test_counts_never_fall() -> None:
    meter = Meter(identity(1))
    meter.delivered(5, 40)
    meter.delivered(0, 30)
    assert (meter.reasoning, meter.output) == (5, 40)


def test_a_slot_with_nothing_delivered_is_a_record_of_nothing() -> None:
    made = from_slot(identity(1), worker=WORKER, prompt=120, cached=0, reasoning=0, output=0, ended=0, credit=True)
    assert (made.state, made.amount_nano_usd, made.credited_nano_usd) == (State.INTERRUPTED, 0, 0)
    assert (made.input, made.unbilled, made.measured_input) == (0, None, 120)


def test_a_slot_is_billed_at_its_counts() -> None:
    made = from_slot(identity(1), worker=WORKER, prompt=120, cached=20, reasoning=7, output=3, ended=0, credit=False)
    assert (made.input, made.cached_input, made.reasoning, made.output, made.unbilled) == (100, 20, 7, 3, None)
