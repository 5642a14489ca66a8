"""A console for other people's words: whatever a label, a file's name or an error says, it steers no terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from jobs.foreign import harmless


class Console(console.Console):
    """rich's, which lets escape sequences in a text through."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich does, with control characters shown as signs; rich's own go through."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
