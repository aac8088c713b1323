# SPDX-License-Identifier: Apache-2.0
"""Codes open one session each, for a minute; sessions end by themselves and when they are closed."""

from __future__ import annotations

from volant.volantd.dashboard.sessions import CODE_SECONDS, MOST_KEPT, SESSION_SECONDS, Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_is_good_once() -> None:
    sessions = Sessions()
    code = sessions.make_code("uid 1")
    session = sessions.redeem(code)
    assert session is not None
    assert sessions.find_owner(session) == "uid 1"
    assert sessions.redeem(code) is None


def test_a_code_ends_after_a_minute_and_a_session_after_half_a_day() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    late, early = sessions.make_code("uid 1"), sessions.make_code("uid 1")
    clock.now += CODE_SECONDS - 1
    session = sessions.redeem(early)
    assert session is not None
    clock.now += 1
    assert sessions.redeem(late) is None
    clock.now += SESSION_SECONDS - 2
    assert sessions.find_owner(session) == "uid 1"
    clock.now += 1
    assert sessions.find_owner(session) is None


def test_what_is_none_opens_nothing() -> None:
    sessions = Sessions()
    code = sessions.make_code("uid 1")
    assert sessions.redeem("") is None
    assert sessions.redeem("\ud800") is None
    assert sessions.find_owner(code) is None, "a code is no session"
    assert sessions.find_owner("") is None


def test_a_closed_session_stays_closed_and_others_open() -> None:
    sessions = Sessions()
    first, second = (sessions.redeem(sessions.make_code("uid 1")) for _ in range(2))
    assert first is not None
    assert second is not None
    sessions.close(first)
    assert sessions.find_owner(first) is None
    assert sessions.find_owner(second) == "uid 1"


def test_only_so_many_are_kept_and_the_newest_count() -> None:
    sessions = Sessions()
    codes = [sessions.make_code("uid 1") for _ in range(MOST_KEPT + 1)]
    assert sessions.redeem(codes[0]) is None
    assert sessions.redeem(codes[-1]) is not None
