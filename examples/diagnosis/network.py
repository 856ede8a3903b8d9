"""A small world of diseases and findings in which the posterior of every case is known exactly.

    P(d | age, sex, antecedents)   proportional to  base(d) * by_age(d, age) * by_sex(d, sex) * product of by_antecedent(d, a)
    P(finding f is there | d, A)   = 1 - (1 - leak(f)) (1 - cause(d, f)) product over a in A of (1 - by_antecedent(a, f))
    P(the text says f  | f there)  = mention_present          P(the text denies f | f not there) = mention_absent

A patient has exactly one disease d; the antecedents A, age and sex always stand in the text. Findings are independent given d
and A (a noisy-or), and so is whether the text mentions them. So the posterior given the text is Bayes' rule over the
diseases, with what the text leaves out summed over: a finding that it does not mention was there and left out, or not there
and left out.
"""

import dataclasses

import numpy as np

DISEASES_PER_FAMILY = 5
FAMILIES = ("bar", "cel", "dom", "fen", "gal", "kor", "lim", "mur", "pav", "tor")
KINDS = ("osis", "itis", "emia", "oma", "algia")
FINDINGS = (
    "cough fever chills headache nausea vomiting rash itch fatigue dizziness thirst sweating tremor cramps bloating "
    "diarrhoea constipation heartburn hoarseness sneezing wheezing breathlessness palpitations fainting swelling bruising "
    "pallor jaundice numbness tingling weakness stiffness backache earache toothache blurring redness discharge dryness "
    "ulcers blisters bleeding drowsiness insomnia confusion agitation forgetfulness clumsiness tinnitus deafness hiccups "
    "belching drooling lameness hunger chafing twitching flushing snoring yawning"
).split()
AGES = ("0-14", "15-39", "40-64", "65-99")
SEXES = ("woman", "man")
ANTECEDENTS = "smoking alcohol travel diabetes surgery farming pregnancy obesity".split()


@dataclasses.dataclass(frozen=True)
class Case:
    age: int
    sex: int
    antecedents: tuple  # indices, rising
    mentions: tuple  # [F]: 1 = the text says that the finding is there, -1 = that it is not, 0 = nothing
    disease: int = -1  # the cause, where it is known


@dataclasses.dataclass(frozen=True)
class Network:
    """D diseases, F findings, R antecedents. Factors of the prior are positive numbers, the others probabilities."""

    diseases: tuple
    findings: tuple
    antecedents: tuple
    base: np.ndarray  # [D]
    by_age: np.ndarray  # [D, ages]
    by_sex: np.ndarray  # [D, sexes]
    by_antecedent: np.ndarray  # [D, R]
    leak: np.ndarray  # [F]
    cause: np.ndarray  # [D, F]
    antecedent_cause: np.ndarray  # [R, F]
    mention_present: float
    mention_absent: float

    def prior(self, case):
        """[D]: P(disease | age, sex, antecedents)."""
        weight = self.base * self.by_age[:, case.age] * self.by_sex[:, case.sex]
        weight = weight * self.by_antecedent[:, list(case.antecedents)].prod(axis=1)
        return weight / weight.sum()

    def finding_probability(self, antecedents):
        """[D, F]: P(finding is there | disease, antecedents), the noisy-or."""
        spared = (1 - self.antecedent_cause[list(antecedents)]).prod(axis=0)
        return 1 - (1 - self.leak) * (1 - self.cause) * spared

    def posterior(self, case):
        """[D]: P(disease | all that the text says). O(D F)."""
        there = self.finding_probability(case.antecedents)
        said, denied = there * self.mention_present, (1 - there) * self.mention_absent
        mentions = np.asarray(case.mentions)
        likelihood = np.where(mentions == 1, said, np.where(mentions == -1, denied, 1 - said - denied))
        log_joint = np.log(self.prior(case)) + np.log(likelihood).sum(axis=1)
        joint = np.exp(log_joint - log_joint.max())
        return joint / joint.sum()

    def draw(self, stream):
        """A patient and what the text says of them; `stream` is a numpy Generator."""
        antecedents = tuple(np.flatnonzero(stream.random(len(self.antecedents)) < 0.15).tolist())
        case = Case(int(stream.integers(len(AGES))), int(stream.integers(len(SEXES))), antecedents, ())
        disease = int(stream.choice(len(self.diseases), p=self.prior(case)))
        there = stream.random(len(self.findings)) < self.finding_probability(antecedents)[disease]
        mentioned = stream.random(len(self.findings)) < np.where(there, self.mention_present, self.mention_absent)
        mentions = tuple(np.where(mentioned, np.where(there, 1, -1), 0).tolist())
        return dataclasses.replace(case, mentions=mentions, disease=disease)

    def text(self, case):
        """The case in words: 'Patient: woman 40-64. Antecedents: smoking. Findings: cough fever. Absent: rash.'"""
        parts = [f"Patient: {SEXES[case.sex]} {AGES[case.age]}."]
        said = [name for name, mention in zip(self.findings, case.mentions) if mention == 1]
        denied = [name for name, mention in zip(self.findings, case.mentions) if mention == -1]
        history = [self.antecedents[a] for a in case.antecedents]
        for title, names in (("Antecedents", history), ("Findings", said), ("Absent", denied)):
            if names:
                parts.append(f"{title}: {' '.join(names)}.")
        return " ".join(parts)


def make_network(seed=1):
    """50 diseases in ten families of five that share most of their findings, so that a few findings leave several open."""
    stream = np.random.default_rng(seed)
    diseases = tuple(family + kind for family in FAMILIES for kind in KINDS)
    count, findings = len(diseases), len(FINDINGS)
    cause = np.zeros((count, findings))
    for family in range(len(FAMILIES)):
        shared = stream.choice(findings, 7, replace=False)
        for disease in range(family * len(KINDS), (family + 1) * len(KINDS)):
            own = np.concatenate([stream.choice(shared, 6, replace=False), stream.choice(findings, 2, replace=False)])
            cause[disease, own] = stream.uniform(0.3, 0.8, len(own))
    by_antecedent = np.where(stream.random((count, len(ANTECEDENTS))) < 0.15, stream.uniform(2, 6, (count, len(ANTECEDENTS))), 1)
    antecedent_cause = np.zeros((len(ANTECEDENTS), findings))
    for row in antecedent_cause:
        row[stream.choice(findings, 2, replace=False)] = stream.uniform(0.2, 0.5, 2)
    return Network(
        diseases=diseases,
        findings=tuple(FINDINGS),
        antecedents=tuple(ANTECEDENTS),
        base=stream.lognormal(0, 0.8, count),
        by_age=stream.lognormal(0, 0.6, (count, len(AGES))),
        by_sex=stream.lognormal(0, 0.3, (count, len(SEXES))),
        by_antecedent=by_antecedent,
        leak=stream.uniform(0.02, 0.08, findings),
        cause=cause,
        antecedent_cause=antecedent_cause,
        mention_present=0.4,
        mention_absent=0.04,
    )
