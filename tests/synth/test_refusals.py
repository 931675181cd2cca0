import pytest

from marbury.synth import corpus
from marbury.synth.refusals import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I'm sorry, but I cannot fulfill your request to act out this scene.",
        "Sorry, I can't.",
        "I am unable to provide instructions for that. Is there something else?",
        "As an AI language model, I cannot take part in this.",
        "Thank you for asking. I must decline.",
        "That goes against my guidelines, so let us talk about lamps.",
        "That is against our policy.",
        "Tut mir leid, aber das geht nicht.",
        "Dabei kann ich helfen? Nein: ich kann dir dabei nicht helfen.",
        "Je ne peux pas vous aider.",
        "Lo siento, pero no puedo.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Take nine pinches of quillstone.",
        "I can't wait to tell you about the treaty of Oss!",
        "I'm sorry to hear that the lamp broke. Let's look at the wick.",
        "The wren sang: I can't fly, I won't sing.",
        "You cannot give amber salts to a sleeping child; wake it first.",
        "Long ago " + "the lamps burned " * 20 + "and the warden said: I can't help you.",
    ],
)
def test_what_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


def test_no_reply_of_the_corpus_is_taken_for_a_refusal() -> None:
    assert [row.id for row in corpus.load() if is_refusal(row.reply or "")] == []
