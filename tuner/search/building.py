"""Trials whose networks are being built: a hypermodel asks for their values meanwhile, and their cost comes last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tuner.records import Note, Observer
from tuner.search.asking import Asker
from tuner.search.crew import Crew, Heard
from tuner.search.messages import Built, Failed, Lost, Suggest, TrainJob
from tuner.search.running import Draft, Running


@dataclass
class Building:
    """The drafts of a search. Their values are stored when their network stands: what dies here is drawn again."""

    asker: Asker
    crew: Crew
    retries: int
    job_for: Callable[[Draft], TrainJob]
    failed: Callable[[str], None]
    """Hears why a draft could not be built."""
    observe: Observer
    _drafts: dict[int, Draft] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._drafts)

    def __contains__(self, number: int) -> bool:
        """Tell whether the trial of this number is being built."""
        return number in self._drafts

    @property
    def waiting(self) -> int:
        """Return how many need a worker."""
        return len(self._waiting)

    def add(self, draft: Draft) -> None:
        """Take a draft, which waits for a worker."""
        self._drafts[draft.number] = draft
        self._waiting.append(draft.number)

    def hand_out(self) -> None:
        """Give free workers what waits."""
        while self._waiting and self.crew.free:
            self.crew.hand(self.job_for(self._drafts[self._waiting.popleft()]))

    def hear(self, number: int, message: Heard, running: Mapping[int, Running]) -> Running | None:
        """Hear of a draft. Its training, when its network stands and is to be trained: its worker waits for a word."""
        draft = self._drafts[number]
        match message:
            case Suggest():
                self.crew.tell(number, self.asker.value_for(draft.trial, draft.values, message.asked))
            case Built():
                del self._drafts[number]
                assert message.cost  # noqa: S101  # of every hypermodel
                found = self.asker.built(draft, message.cost, running)
                if found is None:
                    self.crew.drop(number)
                return found
            case Failed():
                self._give_up(draft, message.reason)
            case Lost():
                self._retry(draft, message.reason)
            case _:
                pass
        return None

    def end(self, reason: str) -> None:
        """End all of them, for the clock."""
        for draft in list(self._drafts.values()):
            self.crew.drop(draft.number)
            self.asker.give_up(draft, "clock", reason)
        self._drafts.clear()
        self._waiting.clear()

    def begin_again(self) -> None:
        """Build all of them anew: somebody else has written into the study, and what was drawn is not in memory."""
        drafts, self._drafts = self._drafts, {}
        self._waiting.clear()
        for draft in drafts.values():
            self.crew.drop(draft.number)
            self.add(self.asker.begin_again(draft.number, draft.start))

    def _retry(self, draft: Draft, reason: str) -> None:
        draft.lost += 1
        if draft.lost > self.retries:
            self._give_up(draft, reason, by_machine=True)
            return
        self.observe(Note(f"Trial {draft.number} is built again: {reason}."))
        self._waiting.appendleft(draft.number)

    def _give_up(self, draft: Draft, reason: str, *, by_machine: bool = False) -> None:
        del self._drafts[draft.number]
        self.asker.give_up(draft, "failed", reason, by_machine=by_machine)
        self.failed(reason)
