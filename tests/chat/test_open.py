from pathlib import Path

import pytest

from marbury.chat.endpoint import Endpoint
from marbury.chat.model import complete
from marbury.chat.open import open_model
from marbury.errors import DataError, SettingsError
from marbury.records import Message


async def test_a_scripted_model_is_looked_up_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "keeper.jsonl").write_text('{"match": "", "reply": "Yes."}\n')
    model = open_model("scripted:keeper.jsonl", folder=tmp_path)
    assert (await complete(model, [Message("user", "?")])).text == "Yes."


def test_an_endpoint_keeps_model_and_address_apart() -> None:
    model = open_model("openai:org/wise-lamp@2@http://127.0.0.1:8000/v1")
    assert isinstance(model, Endpoint)
    assert model.name == "org/wise-lamp@2"
    assert model.base_url == "http://127.0.0.1:8000/v1"


def test_no_address_means_openai_which_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="no key for https://api.openai.com/v1: .* OPENAI_API_KEY"):
        open_model("openai:wise-lamp")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-lamp")
    assert open_model("openai:wise-lamp").name == "wise-lamp"


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("", "write openai:MODEL@http://HOST/v1 or scripted:FILE.jsonl"),
        ("openai:", "did you mean openai:MODEL@http://HOST/v1?"),
        ("opnai:wise-lamp", "did you mean openai:MODEL@http://HOST/v1?"),
        ("script:keeper.jsonl", "did you mean scripted:FILE.jsonl?"),
        ("keeper.jsonl", "did you mean 'scripted:keeper.jsonl'?"),
        ("http://127.0.0.1/v1", "put the model's name before the address: openai:MODEL@http://127.0.0.1/v1"),
        ("wise-lamp", "write openai:MODEL@http://HOST/v1 or"),
        ("openai:wise-lamp@localhost:8000/v1", "with http:// or https://"),
        ("openai:wise-lamp@10.0.0.1/v1", "with http:// or https://"),
    ],
)
def test_what_is_no_model_gets_a_hint(spec: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_model(spec)
    assert str(caught.value).startswith(f"{spec!r} is not a model: ")
    assert hint in str(caught.value)


def test_a_scripted_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_model("scripted:none.jsonl", folder=tmp_path)
