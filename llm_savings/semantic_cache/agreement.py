"""Whether the near questions were all given one answer: then one more near question most likely has it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_savings.semantic_cache.comparing import wording
from llm_savings.semantic_cache.entries import Near
from llm_savings.semantic_cache.remembered import Remembered

_REMEMBERED = 4_096  # answers whose wording need not be worked out again
_RECENT, _STOCK = (
    40,
    0.25,
)  # an answer that more than this share of the latest candidates had says nothing of a question


class Agreement:
    """Compares the stored answers of near questions by their words.

    A model rarely says a thing twice in the same words. Answers from a list, a tool or a FAQ come so, and there they
    tell more than how alike the questions are. What most questions are told ("Please call us.") tells nothing, nor does
    a bare yes, no or number.

    Args:
        text_of: Gives the words of a kept answer.

    Example:
        >>> agreement = Agreement(text_of=str)
        >>> agreement.others([], 0)
        0
    """

    def __init__(self, text_of: Callable[[str], str]) -> None:
        def worded(answer: str) -> int:
            try:
                return hash(wording(text_of(answer)))
            except Exception:  # noqa: BLE001 - whatever somebody has put there
                return _NOTHING

        self._wording = Remembered(worded, _REMEMBERED)
        self._recent: tuple[int, ...] = ()

    def others(self, near: Sequence[Near], best: int) -> int:
        """How many of the other near questions have the best one's answer, or 0 where two do not or it tells nothing.

        Args:
            near: The near questions.
            best: The place of the one whose answer may be given.
        """
        if not near:
            return 0
        said, recent = self._wording(near[best].entry.answer), self._recent
        self._recent = (*recent[1 - _RECENT :], said)
        if said == _NOTHING or len(recent) < _RECENT or recent.count(said) > _STOCK * _RECENT:
            return 0
        agreed = 0
        for seen, one in enumerate((*near[:best], *near[best + 1 :]), 1):
            agreed += self._wording(one.entry.answer) == said
            if seen - agreed > 1:  # two that do not are too many; the rest need not be read
                return 0
        return agreed


_NOTHING = hash("")
