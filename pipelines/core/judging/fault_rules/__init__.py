"""The rules by which `diagnosis` finds who is at fault, a file for each stage, with their limits.

Limits come from what a figure means (chance, a bound of the algorithm, the gate's own limits), with room for healthy
runs; none is fitted to the runs with planted faults. Each rule gives a finding, sound ones too, or None without its
figure.
"""

from collections.abc import Sequence

from pipelines.core.judging.diagnosis import Rule, Stage
from pipelines.core.judging.fault_rules import data, evaluation, ppo, reward_model, sft

RULES: dict[Stage, Sequence[Rule]] = {
    "data": (data.labels_against_gold, data.annotators_agree, data.labels_against_length, data.mask_audit),
    "sft": (sft.loss_is_on_answers, sft.own_template_is_best, sft.answers_were_learnt, sft.text_is_not_forgotten),
    "reward model": (
        reward_model.head_is_there,
        reward_model.folder_is_what_was_measured,
        reward_model.pairs_were_learnt,
        reward_model.pairs_were_not_memorised,
        reward_model.reward_is_more_than_length,
    ),
    "ppo": (
        ppo.penalty_is_on,
        ppo.steps_are_small,
        ppo.divergence_is_one,
        ppo.no_limit_was_passed,
        ppo.reward_rises,
        ppo.gold_does_not_fall,
        ppo.responses_keep_their_shape,
    ),
    "evaluation": (evaluation.answers_are_told_as_given,),
}
NEEDED: dict[Stage, Sequence[Rule]] = {
    "data": (data.labels_mean_something, data.labels_against_length, data.mask_audit),
    "sft": (sft.loss_is_on_answers, sft.own_template_is_best, sft.answers_were_learnt),
    "reward model": (
        reward_model.head_is_there,
        reward_model.folder_is_what_was_measured,
        reward_model.pairs_were_learnt,
    ),
    "ppo": (ppo.penalty_is_on, ppo.steps_are_small, ppo.divergence_is_one, ppo.no_limit_was_passed, ppo.reward_rises),
    "evaluation": (evaluation.answers_are_told_as_given,),
}
