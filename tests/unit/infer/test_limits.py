"""A time limit is learned from many readings, within bounds, and never costs a study its result."""

from hypothesis import given
from hypothesis import strategies as st

from node.infer.limits import TimeLimits, learned_limit_s

SECONDS = st.floats(min_value=0.0, max_value=1e4)


def test_few_readings_leave_all_the_time_there_is() -> None:
    assert learned_limit_s([1.0] * 19, floor_s=10.0, ceiling_s=600.0) == 600.0


def test_many_readings_leave_one_and_a_half_times_what_nineteen_of_twenty_took() -> None:
    durations_s = [float(number) for number in range(100, 0, -1)]
    assert learned_limit_s(durations_s, floor_s=10.0, ceiling_s=600.0) == 1.5 * 95.0


def test_floor_and_ceiling_hold() -> None:
    assert learned_limit_s([0.1] * 100, floor_s=60.0, ceiling_s=600.0) == 60.0
    assert learned_limit_s([500.0] * 100, floor_s=60.0, ceiling_s=600.0) == 600.0
    assert learned_limit_s([0.1] * 100, floor_s=60.0, ceiling_s=5.0) == 5.0


@given(st.lists(SECONDS, max_size=120), SECONDS, SECONDS)
def test_a_limit_is_never_above_the_ceiling_nor_below_the_lower_of_the_two(
    durations_s: list[float], floor_s: float, ceiling_s: float
) -> None:
    found = learned_limit_s(durations_s, floor_s=floor_s, ceiling_s=ceiling_s)
    assert min(floor_s, ceiling_s) <= found <= ceiling_s


def learned(seconds: float, count: int = 100) -> TimeLimits:
    times = TimeLimits(floor_s=1.0)
    for number in range(count):
        times.ended("h", f"a-{number}", seconds, was_stopped=False)
    return times


def test_a_study_stopped_at_a_learned_limit_has_all_the_time_at_its_next_attempt() -> None:
    times = learned(10.0)
    assert times.limit_s("h", "large", ceiling_s=600.0) == 15.0
    times.ended("h", "large", 15.0, was_stopped=True)
    assert times.limit_s("h", "large", ceiling_s=600.0) == 600.0
    assert times.limit_s("h", "another", ceiling_s=600.0) == 15.0
    times.ended("h", "large", 80.0, was_stopped=False)
    assert times.limit_s("h", "large", ceiling_s=600.0) == 15.0


def test_studies_that_grow_raise_the_limit_though_they_are_stopped() -> None:
    times = learned(10.0)
    for number in range(6):
        times.ended("h", f"b-{number}", 15.0, was_stopped=True)
    assert times.limit_s("h", "next", ceiling_s=600.0) == 22.5


def test_only_the_last_hundred_readings_count_and_those_of_other_handlers_never() -> None:
    times = learned(100.0)
    for number in range(100):
        times.ended("h", f"b-{number}", 10.0, was_stopped=False)
    assert times.limit_s("h", "next", ceiling_s=600.0) == 15.0
    assert times.limit_s("other", "next", ceiling_s=600.0) == 600.0
