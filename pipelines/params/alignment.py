"""Feedback by people or a model, the reward models that learn it, and the policy that is optimised against one."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.artifacts import Artifact
from pipelines.params.learning import Lora
from pipelines.params.section import Positive, Rate, Section, Share, Weight


class Endpoint(Section):
    """A server that speaks OpenAI's HTTP API. Nothing is sent anywhere unless one is set and chosen."""

    base_url: str
    """Its address up to `/v1`, without credentials: the route `/chat/completions` is appended."""
    model: str
    """As the server calls it."""
    token_environment: str | None = None
    """Name of the environment variable that holds the token, in capitals; None: no token is sent."""
    timeout_seconds: Rate = 60.0
    """An answer that has not come after this time (seconds) is asked for again."""
    max_requests: Positive = 1000
    """A stage that needs more answers than this ends before it asks for the first; those kept from before count."""
    concurrent: Annotated[int, Field(gt=0, le=64)] = 4
    """Requests under way at once."""

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        if not re.fullmatch(r"https?://[^\s@?#]+", self.base_url):  # the value stays out of the error
            raise ValueError(
                "feedback.constitution.endpoint.base_url must be an http or https address without user, password,"
                " query or fragment, for instance http://127.0.0.1:8000/v1: a token belongs into the environment"
                " variable that token_environment names"
            )
        if self.token_environment is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", self.token_environment):
            raise ValueError(
                "feedback.constitution.endpoint.token_environment must be the name of an environment variable,"
                " capitals, digits and underscores: put the token into the variable, and its name here"
            )
        return self


class Constitution(Section):
    """AI feedback by the principles of constitution.yaml (Bai et al. 2022, arXiv:2212.08073)."""

    share: Share
    """Share of the prompts that the judge ranks instead of simulated annotators; `feedback.overlap_share` of them are
    ranked by both, as is that share of what people ranked, for the agreement. Above 0, prompts without gold facts are
    drawn too, and the judge ranks them all. 0: none of this."""
    judge: Literal["self", "reward_model", "endpoint"]
    """Who compares: the instruction model by the probabilities of its letters, a reward model, or a server."""
    writer: Literal["self", "endpoint"]
    """Who writes critiques and revisions: the instruction model, or the server."""
    principles_per_prompt: Positive
    """Drawn for each prompt: comparisons are averaged over them, a response is revised by one after the other."""
    reward_model: str | None
    """The judge `reward_model`: folder or hub id of a sequence classifier with one output, with its tokenizer. DVC does
    not see changes in it: give another model another name."""
    endpoint: Endpoint | None
    """The server of the judge or the writer `endpoint`."""

    @model_validator(mode="after")
    def _judges_nothing_by_itself(self) -> Self:
        made_later = {PurePosixPath(Artifact.REWARD), PurePosixPath(Artifact.HELD_OUT_REWARD)}
        if self.reward_model is not None and PurePosixPath(self.reward_model) in made_later:
            raise ValueError(
                f"feedback.constitution.reward_model is {self.reward_model!r}, which a later stage makes of what this"
                " judge says, so that each run would judge by another: copy the folder, to models/judge for instance,"
                " and name that"
            )
        return self

    @model_validator(mode="after")
    def _has_what_it_asks(self) -> Self:
        if self.judge == "reward_model" and self.reward_model is None:
            raise ValueError(
                "feedback.constitution.judge is reward_model but feedback.constitution.reward_model is null: set the"
                " second to a folder or hub id"
            )
        if "endpoint" in (self.judge, self.writer) and self.endpoint is None:
            raise ValueError(
                f"feedback.constitution.{'judge' if self.judge == 'endpoint' else 'writer'} is endpoint but"
                " feedback.constitution.endpoint is null: set its base_url and model"
            )
        return self


class Feedback(Section):
    """Preferences."""

    num_prompts: Positive
    """Prompts for which responses are sampled (drawn from the instruction data)."""
    responses_per_prompt: Annotated[int, Field(ge=2)]
    """K responses a prompt."""
    tasks: list[str]
    """Tasks whose prompts are used."""
    temperature: Rate
    """Sampling temperature."""
    max_new_tokens: Positive
    """Longest response in tokens."""
    annotators: Positive
    """Simulated annotators; used for prompts that carry gold facts."""
    annotator_noise: Annotated[float, Field(ge=0)]
    """Mean standard deviation of an annotator's error, in units of the gold score."""
    tie_margin: Annotated[float, Field(ge=0)]
    """Perceived differences below this are ties."""
    overlap_share: Share
    """Share of the prompts that two annotators rank, for the agreement."""
    held_out_annotators: list[str]
    """Names of annotators, simulated ones or people, whose rankings train no reward model, to see what a reward model
    makes of somebody it has not learnt from: such simulated ones rank held-out prompts only, and what such people say
    of other prompts is left out."""
    held_out_share: Share
    """Share of the prompts whose pairs are held out."""
    max_bad_line_share: Share
    """The stage fails when a greater share of the lines written by people cannot be used."""
    constitution: Constitution
    """Feedback by a model instead of people."""

    @model_validator(mode="after")
    def _somebody_is_learnt_from(self) -> Self:
        if all(f"simulated-{number + 1}" in self.held_out_annotators for number in range(self.annotators)):
            raise ValueError(
                f"feedback.held_out_annotators names all {self.annotators} simulated annotators, so that nobody is left"
                " to learn from: take one out, or raise feedback.annotators"
            )
        numbers = (re.fullmatch(r"simulated-(\d+)", name) for name in self.held_out_annotators)
        if beyond := [match[0] for match in numbers if match and not 1 <= int(match[1]) <= self.annotators]:
            raise ValueError(
                f"feedback.held_out_annotators names {', '.join(beyond)}, but feedback.annotators is {self.annotators}:"
                " name others, or nobody: []"
            )
        return self


class RewardVerdict(Section):
    """What the reward model must be; a missing or undefined figure always fails."""

    min_accuracy: Share
    """Lower end of the 95 % interval of its accuracy on held-out pairs; 0.5 is chance."""
    min_gain_over_length: Annotated[float, Field(ge=-1, le=1)]
    """Its accuracy less that of preferring the longer response."""
    max_calibration_error: Share
    """Largest expected calibration error."""


class RewardModeling(Section):
    """The reward model."""

    pooling_layer: bool
    """Put one more layer on top of a Llama, whose attention begins as the mean over all tokens: the reward is read at
    the last token alone, and learns of the others through it. Models of another make are left as they are."""
    epochs: Rate
    """Passes over the training pairs."""
    batch_size: Positive
    """Rankings a step, with all their pairs: each response is read once."""
    learning_rate: Rate
    """Peak of the schedule."""
    max_length: Positive
    """Longest prompt with response in tokens; pairs with a longer one are left out and counted."""
    warmup_share: Share
    """Share of the steps with rising learning rate; a cosine to zero follows."""
    checkpoint_every: Positive
    """Steps between checkpoints."""
    similar_length_ratio: Annotated[float, Field(ge=1)]
    """Two responses are of similar length when the longer has at most this many times the shorter's tokens."""
    held_out_model_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training prompts, chosen by hash, whose pairs train a second reward model instead. It never teaches
    the policy: it judges what the first one made of it (Gao et al. 2022, arXiv:2210.10760)."""
    gate: RewardVerdict
    """The stage ends with an error, and the lifecycle before PPO, when the first model is not this good."""


class RewardFunction(Section):
    """A Python function of yours that scores responses.

    It is imported and called in the process that trains: it runs your code, with all that this process may do.
    """

    function: Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
    """`package.module:name`, below the folder `reward_functions`. It takes a list of prompts and a list of responses,
    all text, and returns a number for each; the same for the same text, or a resumed run is not the run it was."""
    weight: Annotated[float, Field(allow_inf_nan=False)]
    """By which its rewards are multiplied."""

    @model_validator(mode="after")
    def _stays_where_changes_are_seen(self) -> Self:
        if not self.function.startswith("reward_functions."):
            raise ValueError(
                f"ppo.reward_functions names {self.function!r}, which is not below reward_functions, so DVC would not"
                " see its changes: move the module into that folder and write reward_functions.module:name"
            )
        return self


class Ppo(Section):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    iterations: Positive
    """Rollout and update, this many times."""
    prompts_per_iteration: Positive
    """Prompts a rollout."""
    epochs: Positive
    """Passes over one rollout."""
    method: Literal["full", "lora"]
    """Which weights are trained. With `lora` the policy without its adapter is the instruction model that divergence is
    measured from, so that its weights are held once, and checkpoints hold the adapters alone."""
    lora: Lora
    """Settings of the method `lora`; without dropout."""
    minibatch_size: Positive
    """Responses an optimiser step."""
    microbatch_size: Positive | None
    """Responses that are in memory at once: gradients are added up over a minibatch. None: the whole minibatch."""
    learning_rate: Rate
    """Of the policy."""
    value_learning_rate: Rate
    """Of the value model."""
    clip: Rate
    """Clipping range of the probability ratio."""
    value_clip: Rate
    """Clipping range of the value estimate."""
    gradient_clip: Rate
    """Largest norm of the gradient."""
    ptx_coefficient: Weight
    """Weight of the loss on pretraining text, nats a token, in every update of the policy (Ouyang et al. 2022,
    arXiv:2203.02155, equation 2), against forgetting. 0: no text is read."""
    kl_coefficient: Weight
    """Weight of the per-token KL penalty against the SFT model, in whitened rewards per nat."""
    kl_target: Rate | None
    """Nats a response that the weight is steered to, from `kl_coefficient` on (Ziegler et al. 2019, arXiv:1909.08593);
    None: it is fixed."""
    kl_horizon: Positive
    """Responses in which the steered weight changes by a fifth at most."""
    kl_limit: Rate
    """Nats a response, on a rollout, past which training stops; the last policy within it is kept."""
    length_collapse: Annotated[float, Field(ge=0, lt=1)]
    """Training stops likewise when responses get shorter than this part of the first rollout's mean length."""
    length_explosion: Annotated[float, Field(gt=1)]
    """And when they get longer than this many times that length."""
    discount: Share
    """Gamma."""
    gae_lambda: Share
    """Lambda of generalised advantage estimation."""
    temperature: Rate
    """Sampling temperature of the rollout."""
    max_new_tokens: Positive
    """Longest response in tokens."""
    unfinished_penalty: Weight
    """Taken off the whitened reward of a response without an end token."""
    reward_model_weight: Weight
    """By which the reward model's rewards are multiplied before those of `reward_functions` are added."""
    reward_functions: list[RewardFunction]
    """Rewards by your own code."""
    measure_every: Positive
    """Iterations between policies that are measured on the held-out prompts and kept until one is chosen."""
    kl_price: Weight
    """What a nat of divergence costs in that choice, in deviations of the reward; the gain is the mean of the gains by
    the reward model and by the held-out one."""
    max_length_change: Rate | None
    """And by which share the mean length of its responses may differ from the instruction model's; None: by any."""
    length_coefficient: Weight
    """Weight at which responses are drawn back to the length of the first rollout, in whitened rewards for a response
    that is longer or shorter than its rollout's mean by that length. It is 0 up to half of `max_length_change`, this at
    the whole, and grows on. Without that limit there is none."""
    checkpoint_every: Positive
    """Iterations between checkpoints."""
    evaluation_prompts: Annotated[int, Field(ge=2)]
    """Held-out prompts on which reward, gold score, KL and length are measured; with one there is no interval."""

    @model_validator(mode="after")
    def _can_be_steered(self) -> Self:
        if self.kl_target is None:
            return self
        if self.kl_coefficient == 0:
            raise ValueError(
                "ppo.kl_target is set but ppo.kl_coefficient is 0, and no factor changes that: set the second to where"
                " the steering shall begin, for instance 0.05, or the first to null"
            )
        if self.kl_target >= self.kl_limit:
            raise ValueError(
                f"ppo.kl_target is {self.kl_target} but training stops at ppo.kl_limit = {self.kl_limit}: lower the"
                " first or raise the second"
            )
        if self.kl_horizon < self.prompts_per_iteration:
            raise ValueError(
                f"ppo.kl_horizon is {self.kl_horizon} but an iteration has ppo.prompts_per_iteration ="
                f" {self.prompts_per_iteration} responses: raise the first at least to the second"
            )
        return self

    @model_validator(mode="after")
    def _repeats_its_probabilities(self) -> Self:
        if self.lora.dropout > 0:
            raise ValueError(
                f"ppo.lora.dropout is {self.lora.dropout}, but learning compares chances with those of the rollout:"
                " with dropout they differ before anything is learnt. Make it 0"
            )
        return self

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> Self:
        if self.reward_model_weight == 0 and not any(entry.weight for entry in self.reward_functions):
            raise ValueError(
                "ppo.reward_model_weight is 0 and no function in ppo.reward_functions has a weight, so that nothing is"
                " rewarded: raise the first, or name a function with a weight"
            )
        return self
