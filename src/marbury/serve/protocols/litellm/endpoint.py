"""LiteLLM's generic guardrail API: LiteLLM sends the texts of a request or of a reply and does what it is told.

Nothing is passed on from here, so every string that comes is read, whatever its field; a field that is not known is
refused all the same, for LiteLLM would pass it to the model unread. The answer says NONE or BLOCKED, never why.
"""

from typing import Any

from marbury.errors import GuardError, RequestError
from marbury.guard import Judge
from marbury.records import Message, Role
from marbury.serve.journal import Entry, OutputVerdict
from marbury.serve.protocols import fields
from marbury.serve.protocols.media import set_aside
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import RatingProtocol
from marbury.serve.settings import ServeSettings

NONE = {"action": "NONE"}
BLOCKED = {"action": "BLOCKED", "blocked_reason": "Blocked by the content policy."}
UNREAD = {"action": "BLOCKED", "blocked_reason": "Only text can be guarded: images, audio and files are refused."}
_READ = ("texts", "images", "tools", "tool_calls", "structured_messages")
_ABOUT = (  # LiteLLM's own, which no model reads
    "input_type",
    "request_data",
    "request_headers",
    "litellm_call_id",
    "litellm_trace_id",
    "litellm_version",
    "additional_provider_specific_params",
    "model",
)
_ROLES: dict[Any, Role] = {
    "system": "system",
    "developer": "developer",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


async def guard(body: bytes, judge: Judge, settings: ServeSettings, entry: Entry) -> dict[str, Any]:
    """LiteLLM's answer. Raises RequestError and GuardError."""
    request = fields.decoded(body)
    kind = request.get("input_type")
    if kind not in ("request", "response"):
        raise RequestError("input_type must be request or response", "input_type")
    lists = _lists(request, settings.max_messages)
    mode = judge.input_mode if kind == "request" else judge.output_mode
    entry.model = word(model if isinstance(model := request.get("model"), str) else None, "")
    if mode == "off":
        return NONE
    plain, places = set_aside(lists["structured_messages"], "structured_messages")
    unread = len(places) or len(lists["images"])
    if unread and settings.media != "allow" and mode == "enforce":
        entry.outcome, entry.error = "refused", "images, audio or files, which are refused"
        return UNREAD
    entry.media = unread
    ask = _request if kind == "request" else _reply
    try:
        flagged = await ask(lists | {"structured_messages": plain}, judge, entry)
    except GuardError as error:
        if mode == "enforce" and not judge.fail_open:
            raise
        entry.judging_failed, entry.passed_unread, entry.error = True, mode == "enforce", str(error)
        return NONE
    if not flagged or mode != "enforce":
        return NONE
    entry.outcome = "input_blocked" if kind == "request" else "output_blocked"
    return BLOCKED


async def _request(lists: dict[str, list[Any]], judge: Judge, entry: Entry) -> bool:
    entry.input = (await judge.rate(conversation(lists))).request
    return entry.input.flagged


async def _reply(lists: dict[str, list[Any]], judge: Judge, entry: Entry) -> bool:
    before = [_message(message) for message in lists["structured_messages"]] or [Message("user", "")]
    replies = [*lists["texts"], *("\n".join(_texts(call, "tool_calls")) for call in lists["tool_calls"])]
    ratings = [await judge.rate(before, text) for text in replies]
    verdicts = [(i, rating.reply) for i, rating in enumerate(ratings) if rating.reply is not None]
    entry.outputs = [OutputVerdict(i, "text", verdict) for i, verdict in verdicts]
    return any(verdict.flagged for _, verdict in verdicts)


def conversation(lists: dict[str, list[Any]]) -> list[Message]:
    """A request as a conversation: tools as system text, the messages with their roles, then what is not in them."""
    said = [Message("system", text) for tool in lists["tools"] if (text := "\n".join(fields.texts(tool, "tools")))]
    said += [_message(message) for message in lists["structured_messages"]]
    more: list[tuple[Role, str]] = [
        ("assistant", "\n".join(_texts(call, "tool_calls"))) for call in lists["tool_calls"]
    ]
    more += [("user", text) for text in lists["texts"]]
    known = "\n".join(message.content for message in said)
    return said + [Message(role, text) for role, text in more if text not in known] or [Message("user", "")]


def _message(message: Any) -> Message:
    """All texts of a message in one, whatever their fields."""
    if not isinstance(message, dict):
        raise RequestError("a message must be an object", "structured_messages")
    kept = {name: value for name, value in message.items() if name not in ("role", "tool_call_id")}
    texts = _texts(kept, "structured_messages")
    role = message.get("role")
    return Message(_ROLES.get(role, "user") if isinstance(role, str) else "user", "\n".join(fields.both_ways(texts)))


def _texts(value: Any, where: str) -> list[str]:
    """Every text in a value; one that is JSON, as a call's arguments are, with its escapes decoded too."""
    return [text for said in fields.texts(value, where) for text in fields.arguments(said, where)]


def _lists(request: dict[str, Any], most: int) -> dict[str, list[Any]]:
    for field, value in request.items():
        if field not in _READ and field not in _ABOUT:
            fields.nothing(value, field)
    lists = {field: request.get(field) or [] for field in _READ}
    for field, values in lists.items():
        if not isinstance(values, list) or len(values) > most:
            raise RequestError(f"{field} must be a list of at most {most}", field)
    for i, text in enumerate(lists["texts"]):
        fields.text(text, f"texts[{i}]")
    return lists


LITELLM = RatingProtocol(route="litellm", path="/beta/litellm_basic_guardrail_api", answer=guard)
