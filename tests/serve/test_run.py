import threading
from typing import Any

import pytest
from rig import LIMITS

from marbury import settings
from marbury.errors import SettingsError
from marbury.guard import Judge, ScriptedScorer
from marbury.serve import ServeSettings, create_app, run


def test_a_guard_that_cannot_be_loaded_ends_the_server() -> None:
    def make() -> Judge:
        raise SettingsError("no thresholds in runs/demo")

    chosen = ServeSettings(port=0)
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            run(create_app(make, chosen), chosen)
        except SettingsError as error:
            raised.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "no thresholds" in str(raised[0])


@pytest.mark.parametrize(
    "table",
    [
        {"upstream": "localhost:8000"},
        {"upstream": "https://me:secret@host/v1"},
        {"audit_content": "all"},
        {"retention_days": -1},
        {"flag_window_s": 0},
        {"keys": "database", "audit": ""},
        {"block_status": 403},
        {"input": "open"},
        {"timeout_s": 0},
        {"max_body_bytes": -1},
        {"upstraem": "http://x"},
    ],
)
def test_wrong_settings_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.build(ServeSettings, table, "[serve]")
    assert "secret" not in str(raised.value)


def test_a_judge_may_be_given_as_it_is() -> None:
    judge = Judge(ScriptedScorer("x"), LIMITS)
    assert create_app(judge, ServeSettings()).state.service.judge is None  # not before the server runs
    judge.close()
