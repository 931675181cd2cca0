"""What of a request is in its row, and how much of its content."""

import hashlib
import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import FINE, FLAGGED, blocked, entry, said

from marbury.audit.redact import redacted
from marbury.audit.row import Keep, row_of
from marbury.audit.tables import COLUMNS
from marbury.scoring import Verdict
from marbury.serve.journal import OutputVerdict


def test_a_row_has_every_column_and_no_other() -> None:
    assert set(row_of(entry("a"), "none")) == set(COLUMNS)


def test_the_numbers_of_both_sides_stand_in_columns() -> None:
    outputs = [
        OutputVerdict(i, "content", Verdict("output", i == 1, s, 2.0, "potions")) for i, s in enumerate((1, 5, 3))
    ]
    row = row_of(entry("a", outputs=outputs, outcome="output_blocked"), "none")
    assert (row["input_score"], row["input_threshold"], row["output_score"], row["output_threshold"]) == (-3, 1, 5, 2)
    assert (row["stage"], row["category"], row["action"], row["flagged"]) == ("output", "potions", "block", True)
    assert [part["choice"] for part in row["verdicts"]["outputs"]] == [0, 1, 2]
    assert (row["policy"], row["classifier"], row["steps"], row["fail_open"]) == ("c0ffee", "beef", 7, False)


def test_actions() -> None:
    cases = [
        (entry("a"), "allow", False),
        (blocked("a"), "block", True),
        (blocked("a", input_mode="shadow", outcome="passed"), "would_block", False),
        (blocked("a", outcome="passed"), "would_block", False),  # moderations
        (blocked("a", outcome="disconnected"), "block", True),  # it left, and was flagged all the same
        (entry("a", input=None, outcome="refused"), "refuse", False),
        (entry("a", outcome="cooling_down"), "refuse", False),
        (entry("a", outcome="overloaded"), "refuse", False),
        (entry("a", outcome="timeout"), "error", False),
        (entry("a", outcome="guard_error", judging_failed=True), "error", False),
        (entry("a", outcome="upstream_error"), "error", False),
        (entry("a", outcome="passed", fail_open=True), "allow", False),
    ]
    for case, action, flag in cases:
        row = row_of(case, "none")
        assert (row["action"], row["flagged"]) == (action, flag), case


def test_a_score_that_is_no_number_is_none_and_still_flagged() -> None:
    row = row_of(blocked("a", input=Verdict("input", True, math.nan, 1.0)), "none")
    assert row["input_score"] is None and row["flagged"] and row["action"] == "block"


def test_content_is_kept_only_as_asked() -> None:
    talk = entry("a", content=said("Write to ida@orvane.example", "Her number is 0170 123 4567."))
    assert row_of(talk, "none")["content"] is None
    full = row_of(talk, "full")["content"]
    assert full["request"] == [{"role": "user", "content": "Write to ida@orvane.example"}]
    assert row_of(talk, "redacted")["content"] == {
        "request": [{"role": "user", "content": "Write to [email]"}],
        "reply": ["Her number is [number]."],
    }
    hashed = row_of(talk, "hash")["content"]
    assert hashed["reply"] == [hashlib.sha256(b"Her number is 0170 123 4567.").hexdigest()]
    assert "orvane" not in json.dumps(hashed) and len(hashed["request"]) == 64


def test_redaction_leaves_words_and_takes_keys() -> None:
    assert redacted("The moonflower-and-starlight-recipe of 1204") == "The moonflower-and-starlight-recipe of 1204"
    assert redacted("use marbury-k3yK3yk3yK3yk3yK3yk3y now") == "use [secret] now"
    assert redacted("IBAN DE89 3704 0044 0532 0130 00, +49 (30) 1234-567") == "IBAN DE[number], [number]"


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(["full", "redacted", "hash"]), st.floats())
def test_every_row_is_json_that_every_database_takes(text: str, keep: Keep, score: float) -> None:
    found = entry("a", error=text, content=said(text, text), input=Verdict("input", True, score, 1.0, text))
    line = msgspec.json.encode(row_of(found, keep))
    assert b"\\u0000" not in line.replace(b"\\\\", b"") and b"\n" not in line
    json.loads(line)


@pytest.mark.parametrize("verdict", [FINE, FLAGGED])
def test_the_entry_is_left_as_it_was(verdict: Verdict) -> None:
    talk = entry("a", input=verdict, content=said("x"))
    before = msgspec.structs.replace(talk)
    row_of(talk, "full")
    assert talk == before
