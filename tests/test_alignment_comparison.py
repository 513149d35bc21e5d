import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from pipelines import alignment_comparison
from pipelines.adapters import alignment_trainers, files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.core.learning.compute import PASSES
from pipelines.core.learning.preferences import for_held_out_model
from pipelines.core.world.corpus import TalesSource, instruction_records
from pipelines.errors import ParamsError
from tests.core.learning.architectures import causal
from tests.fixtures import tiny_model, tiny_tokenizer
from tests.learning import params, reward_model, write_model, write_validated

SETTINGS = {"max_new_tokens": 6, "evaluation_prompts": 8, "prompts_per_iteration": 8}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("comparison")
    tales = {
        split: [asdict(record) for record in instruction_records(TalesSource(), split, count)]
        for split, count in (("train", 60), ("test", 40))
    }
    tokenizer = tiny_tokenizer([record["completion"] for record in tales["train"]])
    model = tiny_model(tokenizer, context=512)
    write_model(root / "models/sft", model, tokenizer)
    write_model(root / "models/reward", reward_model(model), tokenizer)
    write_model(root / "models/held_out_reward", reward_model(model, seed=2), tokenizer)
    write_validated(root / "data/validated", instructions=tales)
    pairs = [
        {"prompt": f"Go on {number}.", "chosen": "Lily ran home.", "rejected": "No no no.", "source": "fixture"}
        for number in range(40)
    ]
    files.write_jsonl(root / "data/preferences/preferences.train.jsonl", pairs)
    return root


def run(workspace, monkeypatch, method, steps=2):
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(alignment_comparison, "BATCH_SIZE", {"dpo": 8, "grpo": 8, "rloo": 8})
    size = models.load_causal(Path("models/sft")).num_parameters()
    budget = PASSES[method].flops(size, 8 * 100 * steps)
    report = alignment_comparison.main(params(ppo=SETTINGS), NullTracker(), method=method, flops=budget)
    return report, budget


@pytest.mark.parametrize("method", ["dpo", "grpo", "rloo"])
def test_a_method_trains_until_its_budget_is_spent(workspace, monkeypatch, method):
    report, budget = run(workspace, monkeypatch, method)
    assert report.steps >= 1
    assert budget <= report.flops < budget * (1 + 1.5 / report.steps)
    assert report.kl > 0
    assert report.num_prompts == 8
    before, after = (models.load_causal(Path(f"models/{name}")).state_dict() for name in ("sft", "policy"))
    assert any((before[name] != after[name]).any() for name in before)


def test_best_of_n_takes_the_candidate_with_the_best_reward_and_trains_nothing(workspace, monkeypatch):
    report, _ = run(workspace, monkeypatch, "best-of-n", steps=6)
    assert report.candidates >= 2
    assert report.reward_after > report.reward_before
    assert report.steps == 0


def test_dpo_makes_the_chosen_responses_likelier_than_the_rejected_ones(workspace, monkeypatch):
    import torch

    monkeypatch.chdir(workspace)
    tokenizer = models.load_tokenizer(Path("models/sft"))
    policy, reference = (models.load_causal(Path("models/sft")) for _ in range(2))
    pairs = list(files.read_jsonl(Path("data/preferences/preferences.train.jsonl")))
    settings = alignment_trainers.Run(learning_rate=1e-3, batch_size=8, seed=0, beta=0.1)
    alignment_trainers.dpo(policy, reference, tokenizer, pairs, settings, PASSES["dpo"].flops(1, 10**9))

    def margin(model):
        likely = []
        for side in ("chosen", "rejected"):
            talk = [{"role": "user", "content": "Go on 1."}, {"role": "assistant", "content": pairs[0][side]}]
            ids = torch.tensor(tokenizer.apply_chat_template([talk], return_dict=False))
            with torch.inference_mode():
                chances = model(ids).logits[0, :-1].log_softmax(-1)
            likely.append(chances.gather(1, ids[0, 1:, None]).sum().item())
        return likely[0] - likely[1]

    assert margin(policy) > margin(reference) + 1


def test_dpo_reads_pairs_of_any_length_with_a_model_whose_positions_have_no_end(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    tokenizer = models.load_tokenizer(Path("models/sft"))
    shape = {"vocab_size": len(tokenizer), "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    policy, reference = (causal("bloom", **shape) for _ in range(2))
    pairs = [{"prompt": "Go on.", "chosen": "good " * 400, "rejected": "bad"}] * 8
    settings = alignment_trainers.Run(learning_rate=1e-3, batch_size=8, seed=0, beta=0.1)
    budget = alignment_trainers.dpo(policy, reference, tokenizer, pairs, settings, flops=1.0)
    assert budget.tokens > 8 * 400


def test_dpo_learns_from_none_of_the_pairs_of_the_reward_model_that_judges_it(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    settings = params()
    share = settings.reward_modeling.held_out_model_share
    used = {pair["prompt"] for pair in alignment_comparison._pairs(settings)}
    every = {pair["prompt"] for pair in files.read_jsonl(Path("data/preferences/preferences.train.jsonl"))}
    judges = {prompt for prompt in every if for_held_out_model(prompt, seed=settings.seed, share=share)}
    assert judges
    assert used == every - judges


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_policy_gradients_find_the_response_that_is_rewarded(workspace, monkeypatch, method):
    monkeypatch.chdir(workspace)
    tokenizer = models.load_tokenizer(Path("models/sft"))
    policy = models.load_causal(Path("models/sft"))
    seen = []

    def short(prompts, responses, finished):
        lengths = [-float(len(response)) for response in responses]
        seen.append(sum(lengths) / len(lengths))
        return lengths

    settings = alignment_trainers.Run(learning_rate=1e-2, batch_size=16, seed=0, beta=0.0)
    alignment_trainers.policy_gradient(
        method,
        policy,
        tokenizer,
        [f"Go on {number}." for number in range(20)],
        short,
        settings,
        PASSES[method].flops(policy.num_parameters(), 12 * 16 * 15),
        max_new_tokens=4,
        temperature=1.0,
    )
    third = len(seen) // 3
    assert sum(seen[-third:]) > sum(seen[:third])


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ParamsError, match=r"ppo,dpo,grpo,rloo,best-of-n"):
        alignment_comparison._arguments(["kto", "1e9"])
    assert json.dumps(alignment_comparison._arguments(["dpo", "1e9"])) == '{"method": "dpo", "flops": 1000000000.0}'
    assert (
        partial(alignment_comparison.main, **alignment_comparison._arguments(["ppo", "1"])).keywords["method"] == "ppo"
    )
