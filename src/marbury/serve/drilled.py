"""The mark of a server whose classifiers were swapped for a word: nobody may take it for a guard."""

from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-marbury-drill"


class Drilled:
    """Puts the word into a header of every answer, percent-encoded where a header cannot carry it."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self._app = app
        self._field = (HEADER.encode(), quote(word, safe="!#$&'*+.^`|~").encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does (ASGI)."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], self._field]}
            await send(message)

        await self._app(scope, receive, marked if scope["type"] == "http" else send)
