from collections import Counter

from marbury.constitution.parse import parse
from marbury.constitution.templates import text
from marbury.synth import corpus


def test_the_corpus_has_its_rows_with_their_sources() -> None:
    rows = corpus.load()
    assert Counter(row.source for row in rows) == {
        "a1": 320, "a2": 320, "a3": 320, "a4": 330, "a5": 310, "a6": 250, "a7": 150,
    }  # fmt: skip
    assert len({row.id for row in rows}) == len(rows)
    assert rows == corpus.load()


def test_the_corpus_belongs_to_the_orvane_constitution() -> None:
    orvane = parse(text("orvane"))
    rows = corpus.load()
    assert {row.category for row in rows} == set(orvane.slugs)
    assert {row.category for row in rows if row.request_harmful} == set(orvane.restricted_slugs)
    assert not any(row.reply_harmful and not row.request_harmful for row in rows)


def test_rows_of_a_pair_share_the_request() -> None:
    requests: dict[str, object] = {}
    for row in corpus.load():
        assert row.reply is not None
        assert requests.setdefault(row.pair, row.request) == row.request
