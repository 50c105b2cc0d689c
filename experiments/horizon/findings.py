"""What the numbers of a run say, in sentences that are computed from them."""

from __future__ import annotations

import itertools
import math

from experiments.horizon.numbers import WHEN, Numbers
from experiments.lab import decimal, interval, short, words


def headlines(numbers: Numbers) -> list[str]:
    """Say the most in three sentences: who recalls, what the rate does, where gradients go."""
    return [*_recalled(numbers), *_at_other_rates(numbers), *_left(numbers)]


def findings(numbers: Numbers) -> list[str]:
    """Say the rest, a sentence each, with intervals."""
    return [
        *_learned(numbers),
        *_good_rates(numbers),
        *(sentence for when in WHEN for sentence in _pace(numbers, when)),
        *_added(numbers),
        *_flattered(numbers),
    ]


def _recalled(numbers: Numbers) -> list[str]:
    lag = numbers.longest
    order = sorted(
        numbers.ran("recall"), key=lambda who: -numbers.solved("recall", who, lag=lag)[0]
    )
    rows = ["{} {} of {}".format(who, *numbers.solved("recall", who, lag=lag)) for who in order]
    return [f"Seeds that recall a symbol seen {lag} steps before: {words(rows)}."] if rows else []


def _at_other_rates(numbers: Numbers) -> list[str]:
    """Whether those that fail at their own learning rate succeed at another."""
    helped, lost = [], []
    for who in numbers.ran("recall"):
        if numbers.most("recall", who, lag=numbers.longest):
            continue
        own = numbers.rate("recall", who)
        good = {rate: count for rate, count in numbers.by_rate(who).items() if _most(count)}
        if not good:
            lost.append(who)
            continue
        rate, (k, n) = max(good.items(), key=lambda item: item[1][0] / item[1][1])
        helped.append(
            f"{who} at {decimal(rate)}, {short(rate / own)} times its own, with {k} of {n} seeds "
            f"(95 % Wilson interval {interval(k, n)})"
        )
    if helped:
        return [
            f"At another learning rate most seeds recall it too: {words(helped)}; so few seeds are "
            "a hint, and no proof, that the rate stood in the way and not the cell."
        ]
    if lost:
        return [f"No learning rate that was tried lets most seeds of {words(lost)} do so."]
    return []


def _most(count: tuple[int, int]) -> bool:
    return 2 * count[0] > count[1]


def _by_left(numbers: Numbers, when: str) -> dict[str, float]:
    """The gradient left at the longest lag, most first, and what is no number last."""
    far = {who: numbers.left(who, when) for who in numbers.traced()}
    size = {who: -math.inf if math.isnan(left) else left for who, left in far.items()}
    return {who: far[who] for who in sorted(far, key=lambda who: -size[who])}


def _left(numbers: Numbers) -> list[str]:
    rows = [f"{short(left)} for {who}" for who, left in _by_left(numbers, WHEN[0]).items()]
    if not rows:
        return []
    return [
        f"At initialisation, the gradient {numbers.longest} steps back, relative to that at the "
        f"last step, is {words(rows)}."
    ]


def _learned(numbers: Numbers) -> list[str]:
    """At which lags most seeds succeed, at the learning rate of each."""

    def row(who: str) -> str:
        good = [numbers.most("recall", who, lag=lag) for lag in numbers.lags]
        named = [str(lag) for lag, is_good in zip(numbers.lags, good, strict=True) if is_good]
        odd = any(later and not sooner for sooner, later in itertools.pairwise(good))
        return (
            f"{who} {words(named) if named else 'none'}"
            f"{' (a longer one, but not a shorter one)' if odd else ''}"
        )

    rows = [row(who) for who in numbers.ran("recall")]
    return [f"Lags that most seeds recall: {'; '.join(rows)}."] if rows else []


def _good_rates(numbers: Numbers) -> list[str]:
    """At which learning rates the longest lag is learned."""

    def row(who: str) -> str:
        counts = numbers.by_rate(who)
        good = [decimal(rate) for rate, count in counts.items() if _most(count)]
        tried = words([decimal(rate) for rate in counts])
        return f"{who} at {words(good) if good else 'none'} of {tried}"

    rows = [row(who) for who in numbers.ran("recall")]
    lag = numbers.longest
    start = f"Learning rates at which most seeds recall a lag of {lag}"
    return [f"{start}: {'; '.join(rows)}."] if rows else []


def _pace(numbers: Numbers, when: str) -> list[str]:
    """How much of the gradient is left at the longest lag, and how fast it falls."""

    def row(who: str, left: float) -> str:
        horizon = numbers.horizon(who, when)
        pace = f"a factor e every {horizon} steps" if horizon[0].isdigit() else horizon
        return f"{short(left)} for {who} ({pace})"

    rows = [row(who, left) for who, left in _by_left(numbers, when).items()]
    start = "At initialisation" if when == WHEN[0] else "After training"
    return [f"{start}, the gradient {numbers.longest} steps back: {words(rows)}."] if rows else []


def _added(numbers: Numbers) -> list[str]:
    counts = {who: numbers.solved("adding", who) for who in numbers.ran("adding")}
    rows = [f"{who} {k} of {n} ({interval(k, n)})" for who, (k, n) in counts.items()]
    steps = numbers.longest
    return [f"Seeds that solve adding over {steps} steps: {words(rows)}."] if rows else []


def _flattered(numbers: Numbers) -> list[str]:
    """Name the contenders that adding flatters: most seeds add, but do not recall as far."""
    lag = numbers.longest
    rows = []
    for who in numbers.ran("recall"):
        k, n = numbers.solved("recall", who, lag=lag)
        if numbers.most("adding", who) and not _most((k, n)):
            rows.append(f"{who}, of whose seeds most add, but {k or 'none'} of {n} recall")
    return [f"Over the same {lag} steps, adding flatters {words(rows)}."] if rows else []
