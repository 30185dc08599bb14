"""When a policy is asked, and what it remembers: the same at a real move, at a recorded one, and at a simulated one."""

from __future__ import annotations

from limosa.migration.history import History
from limosa.migration.policies.policy import Action, Brief, Policy


class Helm:
    """A policy on duty."""

    def __init__(self, policy: Policy, brief: Brief) -> None:
        self.policy, self.brief = policy, brief
        self._memory = policy.memory
        self._tick_s = brief.seconds(policy.tick_s)
        self._next_s = self._tick_s

    def judge(self, seen: History) -> tuple[Action | None, str]:
        """What is to be done at the last look, if it is time for the policy to look, and why."""
        if seen.now.at_s < self._next_s:
            return None, ""
        self._next_s = seen.now.at_s + self._tick_s
        judged = self.policy.step(seen, self.brief, self._memory)
        self._memory = judged.memory
        return judged.action, judged.why
