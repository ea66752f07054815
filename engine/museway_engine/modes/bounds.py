"""What a request can take: mode, maxima and bounds in closed form (MODES §8). Pure; tokens everywhere.

In Contemplating, P is the client's prompt, N agents, R rounds, T tokens an agent, D the drafts with their fence, u the
instructions: the shared prefix is input once, then cached input; every agent's tokens are reasoning.
"""

from __future__ import annotations

from museway_engine.completion import Completion, Effort, Mode
from museway_engine.errors import ContextTooLong, InvalidForModel
from museway_engine.modes.choose import Choice, choose
from museway_engine.modes.contemplating.words import AGENT_BYTES, REFINE_BYTES, SYNTHESIS_BYTES, drafts_bound
from museway_engine.profiles.facts import Facts
from museway_engine.run import Bound, Prepared

AGENTS_MAX, AGENTS_MIN = 16, 2
ROUNDS_MAX = 3
_AGENT_TOKENS_MIN = 16


def prepare(completion: Completion, facts: Facts, prompt_tokens: int | None) -> Prepared:
    """Raises InvalidForModel, ContextTooLong (the latter only where the prompt surely does not fit)."""
    choice = choose(completion)
    prompt = facts.prompt_bound(completion) if prompt_tokens is None else prompt_tokens
    if prompt_tokens is not None and prompt_tokens >= facts.context:
        raise ContextTooLong(prompt=prompt_tokens, context=facts.context)
    if completion.max_tokens is not None and completion.max_tokens > facts.context:
        raise _too_much(completion.max_tokens, prompt_tokens, facts.context)
    plan = _Plan(completion, facts, choice, prompt=prompt, is_exact=prompt_tokens is not None)
    match choice.resolved:
        case Mode.CONTEMPLATING:
            return plan.contemplating()
        case Mode.THINKING:
            return plan.thinking()
        case _:
            return plan.instant()


class _Plan:
    def __init__(self, completion: Completion, facts: Facts, choice: Choice, *, prompt: int, is_exact: bool) -> None:
        self.completion = completion
        self.facts = facts
        self.choice = choice
        self.prompt = prompt
        self.is_exact = is_exact

    def instant(self) -> Prepared:
        n = self.completion.n
        maximum = self._maximum(self.facts.profile.maxima.default_tokens, extra=0)
        worst = Bound(input=self.prompt, cached_input=0, reasoning=0, output=n * maximum)
        return self._prepared(maximum, worst=worst, likely=_half(worst), least=_least(self.prompt, n))

    def thinking(self) -> Prepared:
        rules, maxima, n = self.facts.profile.thinking, self.facts.profile.maxima, self.completion.n
        effort = self.completion.effort or Effort.MEDIUM
        wanted = 0 if effort is Effort.NONE else rules.budgets.get(effort, rules.budgets[Effort.MEDIUM])
        added = len(self.facts.thinking.open) + len(self.facts.thinking.cut)
        maximum = self._maximum(wanted + maxima.default_tokens, extra=added)
        budget = max(0, min(wanted, maximum - maxima.answer_floor))
        worst = Bound(input=self.prompt, cached_input=0, reasoning=n * budget, output=n * (maximum - budget))
        return self._prepared(maximum, budget=budget, worst=worst, likely=_half(worst), least=_least(self.prompt, n))

    def contemplating(self) -> Prepared:
        agents, rounds, tokens = self._deliberation()
        maximum = self._maximum(self.facts.profile.maxima.default_tokens, extra=0)
        draft = min(tokens, self.facts.profile.contemplating.draft_tokens)
        prompt = self.prompt

        def bound(agents: int, rounds: int, tokens: int, output: int) -> Bound:
            drafts = drafts_bound(agents, draft)
            instructions = agents * AGENT_BYTES + rounds * (drafts + agents * REFINE_BYTES) + drafts + SYNTHESIS_BYTES
            return Bound(
                input=prompt + instructions,
                cached_input=agents * prompt * (1 + rounds) + rounds * (agents - 1) * drafts,
                reasoning=agents * (1 + rounds) * tokens,
                output=output,
            )

        return self._prepared(
            maximum,
            agents=agents,
            rounds=rounds,
            agent_max_tokens=tokens,
            first=bound(agents, 0, tokens, maximum),
            worst=bound(agents, rounds, tokens, maximum),
            likely=bound(max(AGENTS_MIN, agents * 3 // 4), 0, max(1, tokens // 2), max(1, maximum // 2)),
            least=bound(AGENTS_MIN, 0, 1, 1),
        )

    def _deliberation(self) -> tuple[int, int, int]:
        """Agents, rounds and tokens an agent, as asked for or by the profile. Raises InvalidForModel."""
        asked, rules = self.completion.contemplating, self.facts.profile.contemplating
        if self.completion.n > 1:
            raise InvalidForModel("Contemplating gives one answer: n must be 1.", param="n")
        agents = rules.agents if asked.agents is None else asked.agents
        rounds = rules.rounds if asked.rounds is None else asked.rounds
        tokens = rules.agent_tokens if asked.agent_max_tokens is None else asked.agent_max_tokens
        if not AGENTS_MIN <= agents <= AGENTS_MAX:
            raise InvalidForModel(f"agents must be {AGENTS_MIN} to {AGENTS_MAX}.", param="contemplating.agents")
        if not 0 <= rounds <= ROUNDS_MAX:
            raise InvalidForModel(f"rounds must be 0 to {ROUNDS_MAX}.", param="contemplating.rounds")
        if not _AGENT_TOKENS_MIN <= tokens <= self.facts.context:
            raise InvalidForModel(
                f"agent_max_tokens must be {_AGENT_TOKENS_MIN} to {self.facts.context}.",
                param="contemplating.agent_max_tokens",
            )
        return agents, rounds, tokens

    def _maximum(self, default: int, *, extra: int) -> int:
        """The answer's maximum: the client's, else the default, made to fit the context where the prompt is known."""
        asked, context = self.completion.max_tokens, self.facts.context
        if not self.is_exact:
            return min(default, context) if asked is None else asked
        left = context - self.prompt - extra
        if asked is None and left >= 1:
            return min(default, left)
        if asked is None or asked > left:
            raise _too_much(asked or 1, self.prompt, context)
        return asked

    def _prepared(
        self,
        maximum: int,
        *,
        worst: Bound,
        likely: Bound,
        least: Bound,
        first: Bound | None = None,
        budget: int = 0,
        agents: int = 0,
        rounds: int = 0,
        agent_max_tokens: int = 0,
    ) -> Prepared:
        return Prepared(
            completion=self.completion,
            mode=self.choice.mode,
            resolved=self.choice.resolved,
            rule=self.choice.rule,
            prompt_bound=self.prompt,
            is_exact=self.is_exact,
            max_tokens=maximum,
            budget=budget,
            agents=agents,
            rounds=rounds,
            agent_max_tokens=agent_max_tokens,
            first=first or worst,
            worst=worst,
            likely=likely,
            least=least,
        )


def _half(worst: Bound) -> Bound:
    """Answers and chains end by themselves about half-way to a maximum that was meant to be enough."""
    return Bound(
        input=worst.input, cached_input=0, reasoning=-(-worst.reasoning // 2), output=max(1, -(-worst.output // 2))
    )


def _least(prompt: int, n: int) -> Bound:
    return Bound(input=prompt, cached_input=0, reasoning=0, output=n)


def _too_much(maximum: int, prompt: int | None, context: int) -> InvalidForModel:
    taken = "" if prompt is None else f" and the messages take {prompt}"
    return InvalidForModel(
        f"This model's context is {context} tokens{taken}: it can't hold {maximum} more.",
        param="max_tokens",
        code="context_length_exceeded",
    )
