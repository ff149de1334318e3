"""Shares with intervals, a test against 50 %, and how far raters agree.

Letters: Q questions, R participants, n answers, of which k are for the first of two systems; p = k / n.

Answers to one question resemble each other, because layouts differ in difficulty, so n answers to Q questions say less
than n unrelated ones. How much less is the design effect d: the variance of p with questions as clusters,
Q / (Q - 1) sum_q (k_q - p n_q)^2 / n^2, over that of n unrelated answers, p (1 - p) / (n - 1); at least 1, since less
is chance. The interval is Wilson's (1927) with n / d answers in the place of n, as Korn and Graubard (1998) put surveys
with clusters into intervals for shares, and with the t quantile of Q - 1 degrees of freedom because d is estimated.
Where each question has one answer d is 1, and it is Wilson's own. It stays within 0 .. 1, and holds its level with few
questions and with shares near 0 or 1, where p -+ 1.96 standard errors does not (tests/test_study.py draws studies of
simulated raters, and counts). A bootstrap over questions would be slower, and as poor as that where questions are few.

That interval is for other layouts, judged by these participants. Participants differ in taste, too. A second interval
counts them as a sample as well: its d is d_q + d_r - 1, where d_r has participants as clusters, and it has R - 1
degrees of freedom where that is less (clusters in two ways, added up as in Cameron, Gelbach and Miller 2011). With few
participants it is wide, which is all that few participants can say about others.

The two-sided tests are of p = 50 % by the score (p - 1/2) / sqrt(d / 4n) that Wilson's interval inverts: a p-value is
below 0.05 where its interval leaves out 50 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.study.answers import Answer

LEVEL = 0.95


@dataclass(frozen=True)
class Preference:
    """How two systems compare. Shares are in 0 .. 1; NaN where there is nothing to tell."""

    study: str
    first: str
    second: str
    questions: int
    answers: int
    participants: int
    share_first: float
    low: float  # of the interval for other layouts
    high: float
    p_value: float
    low_others: float  # of that for other layouts and other participants
    high_others: float
    p_value_others: float
    design_effect: float  # of questions
    agreement: float  # share of pairs of raters of one question that agree
    kappa: float


def design_effect(chosen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How many times the variance of the share is that of unrelated answers: [...], at least 1.

    Args:
        chosen: [..., C] answers for the first system in each of C clusters (questions, or participants).
        asked: [..., C] answers in each; clusters without any count as absent.

    Where all answers are alike nothing can be estimated, and a cluster counts as one answer: the result is n / C.
    """
    chosen, asked = np.asarray(chosen, float), np.asarray(asked, float)
    n, clusters = asked.sum(-1), (asked > 0).sum(-1)
    p = chosen.sum(-1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        clustered = clusters / (clusters - 1) * ((chosen - p[..., None] * asked) ** 2).sum(-1) / n**2
        effect = clustered / (p * (1 - p) / (n - 1))
    return np.maximum(1, np.where(np.isfinite(effect), effect, n / clusters))


def effective(
    chosen: np.ndarray, asked: np.ndarray, chosen_of: np.ndarray | None = None, asked_of: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many unrelated answers these are worth, and with how many degrees of freedom that is known: [...] each.

    Those are infinite where no question has two answers, so that there is no design effect to estimate, and where there
    is one question.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [..., Q].
        chosen_of, asked_of: those of each participant, [..., R], where participants are a sample as well.
    """
    effect, freedom = design_effect(chosen, asked), _freedom(asked)
    if chosen_of is not None and asked_of is not None:
        effect = effect + design_effect(chosen_of, asked_of) - 1
        freedom = np.minimum(freedom, _freedom(asked_of))
    return asked.sum(-1) / effect, freedom


def _freedom(asked: np.ndarray) -> np.ndarray:
    clusters = (asked > 0).sum(-1)
    return np.where((asked.max(-1) > 1) & (clusters > 1), clusters - 1.0, np.inf)


def wilson(p: np.ndarray, n: np.ndarray, z: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval (1927) for a share p of n answers, with the quantile z."""
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.maximum(0, middle - half), np.minimum(1, middle + half)


def share_interval(chosen: np.ndarray, asked: np.ndarray, *of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the share for the first system, [...] each; arguments as those of `effective`."""
    n, freedom = effective(chosen, asked, *of)
    return wilson(chosen.sum(-1) / asked.sum(-1), n, stats.t.ppf((1 + LEVEL) / 2, freedom))


def p_value(chosen: np.ndarray, asked: np.ndarray, *of: np.ndarray) -> np.ndarray:
    """Two-sided, of the share being 1/2: [...]; arguments as those of `effective`."""
    n, freedom = effective(chosen, asked, *of)
    return 2 * stats.t.sf(np.abs(chosen.sum(-1) / asked.sum(-1) - 0.5) * np.sqrt(4 * n), freedom)


def agreement(chosen: np.ndarray, asked: np.ndarray) -> float:
    """The share of pairs of answers to one question that are alike; NaN where no question has two.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [Q].
    """
    other = asked - chosen
    pairs = (asked * (asked - 1)).sum()
    return float((chosen * (chosen - 1) + other * (other - 1)).sum() / pairs) if pairs else math.nan


def fleiss_kappa(chosen: np.ndarray, asked: np.ndarray) -> float:
    """Agreement beyond chance, Fleiss (1971), for two answers and unequal numbers of raters (Fleiss and Cuzick 1979).

    1 - sum_q k_q (n_q - k_q) / n_q / (sum_q (n_q - 1) p (1 - p)), over questions with two answers or more: 1 is full
    agreement, 0 that of answers drawn without looking at the question. NaN where there is none, or all are alike.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [Q].
    """
    chosen, asked = chosen[asked > 1], asked[asked > 1]
    if not len(asked):
        return math.nan
    p = chosen.sum() / asked.sum()
    expected = (asked - 1).sum() * p * (1 - p)
    return float(1 - (chosen * (asked - chosen) / asked).sum() / expected) if expected else math.nan


def preference(study: str, first: str, second: str, answers: Sequence[Answer]) -> Preference:
    """What the answers to one pair's questions say; each answer counts the same."""
    _, question = np.unique([answer.question for answer in answers], return_inverse=True)
    _, rater = np.unique([answer.participant for answer in answers], return_inverse=True)
    for_first = np.array([answer.system == first for answer in answers], float)
    counts = np.bincount(question, for_first), np.bincount(question)
    people = np.bincount(rater, for_first), np.bincount(rater)
    several = len(people[0]) > 1  # one says nothing of others
    low, high = share_interval(*counts)
    low_others, high_others = share_interval(*counts, *people) if several else (math.nan, math.nan)
    return Preference(
        study=study,
        first=first,
        second=second,
        questions=len(counts[0]),
        answers=len(answers),
        participants=len(people[0]),
        share_first=float(for_first.mean()),
        low=float(low),
        high=float(high),
        p_value=float(p_value(*counts)),
        low_others=float(low_others),
        high_others=float(high_others),
        p_value_others=float(p_value(*counts, *people)) if several else math.nan,
        design_effect=float(design_effect(*counts)),
        agreement=agreement(*counts),
        kappa=fleiss_kappa(*counts),
    )
