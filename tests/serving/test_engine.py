"""Continuous batching: the words of `generate`, whoever else is being answered."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pipelines.errors import MoteurError
from serving.engine import Engine, EngineClosedError, EngineFullError, Generation, Job, Piece
from tests.fixtures import corpus_records, tiny_tokenizer
from tests.serving import live

TOKENIZER = tiny_tokenizer([record["text"] for record in corpus_records(40)])
TEXTS = [record["text"] for record in corpus_records(12, seed=9)]
PROMPTS: list[list[int]] = [TOKENIZER(text[: 9 + 7 * number])["input_ids"] for number, text in enumerate(TEXTS)]


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    ends = {"eos_token_id": TOKENIZER.eos_token_id, "bos_token_id": None, "pad_token_id": TOKENIZER.pad_token_id}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(TOKENIZER), n_positions=128, n_embd=32, n_layer=2, n_head=2, **ends)
    ).eval()


def mistral() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(3)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=8,
            max_position_embeddings=128,
            eos_token_id=TOKENIZER.eos_token_id,
            bos_token_id=None,
            pad_token_id=TOKENIZER.pad_token_id,
        )
    ).eval()


def bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(4)
    config = BloomConfig(vocab_size=len(TOKENIZER), hidden_size=32, n_layer=2, n_head=4, seq_length=128)
    config.eos_token_id, config.bos_token_id, config.pad_token_id = TOKENIZER.eos_token_id, None, TOKENIZER.pad_token_id
    config.max_position_embeddings = 128
    return BloomForCausalLM(config).eval()


def llama() -> Any:
    return live.talkative(TOKENIZER, context=128)


class Client:
    """Waits for what an engine delivers."""

    def __init__(self, model: Any, *, slots: int = 4, waiting: int = 100, prefill_tokens: int = 64) -> None:
        self._pieces: queue.Queue[tuple[Job, Piece]] = queue.Queue()
        self._seen: dict[Job, list[Piece]] = {}
        self.engine = Engine(
            model,
            TOKENIZER,
            lambda batch: [self._pieces.put(one) for one in batch] and None,
            slots=slots,
            queue=waiting,
            prefill_tokens=prefill_tokens,
        )

    def submit(self, prompt: list[int], max_tokens: int = 20, **options: Any) -> Job:
        return self.engine.submit(Generation(prompts=[prompt], max_tokens=max_tokens, **options))

    def pieces(self, job: Job) -> list[Piece]:
        while not (seen := self._seen.setdefault(job, [])) or not seen[-1].last:
            owner, piece = self._pieces.get(timeout=60)
            self._seen.setdefault(owner, []).append(piece)
        return seen

    def tokens(self, job: Job) -> list[int]:
        return [token for piece in self.pieces(job) for token in piece.tokens]

    def ask(self, prompt: list[int], **options: Any) -> list[int]:
        return self.tokens(self.submit(prompt, **options))


@pytest.fixture
def client() -> Iterator[Client]:
    one = Client(llama())
    yield one
    one.engine.abandon()


def generated(model: Any, prompt: list[int], max_tokens: int = 20, **options: Any) -> list[int]:
    row = torch.tensor([prompt])
    whole = model.generate(
        row,
        attention_mask=torch.ones_like(row),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=TOKENIZER.pad_token_id,
        **options,
    )
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


@pytest.mark.parametrize("make", [llama, gpt2, mistral, bloom])
def test_greedy_answers_are_those_of_generate_while_others_come_and_go(make: Any) -> None:
    model = make()
    client = Client(model)
    lengths = [5 + 3 * number for number in range(len(PROMPTS))]
    jobs = [client.submit(prompt, length) for prompt, length in zip(PROMPTS, lengths, strict=True)]
    answers = [client.tokens(job) for job in jobs]
    client.engine.close()
    assert answers == [generated(model, prompt, length) for prompt, length in zip(PROMPTS, lengths, strict=True)]


def test_a_long_prompt_is_read_in_pieces_and_answered_the_same() -> None:
    model = llama()
    client = Client(model, prefill_tokens=7)
    prompt = [*PROMPTS[-1], *PROMPTS[-2]][:90]
    assert client.ask(prompt) == generated(model, prompt)
    client.engine.close()


def test_the_window_moves_when_its_last_column_is_reached() -> None:
    model = llama()
    client = Client(model, slots=2)
    first = client.submit(PROMPTS[0], 100)
    others = [client.submit(PROMPTS[number % 5], 40 + number) for number in range(8)]
    assert client.tokens(first) == generated(model, PROMPTS[0], 100)
    for number, job in enumerate(others):
        assert client.tokens(job) == generated(model, PROMPTS[number % 5], 40 + number)
    client.engine.close()


def test_an_end_token_ends_the_answer() -> None:
    model = llama()
    usual = generated(model, PROMPTS[3])
    model.generation_config.eos_token_id = [usual[4], TOKENIZER.eos_token_id]
    client = Client(model)
    job = client.submit(PROMPTS[3])
    cut = usual[: usual.index(usual[4]) + 1]
    assert client.tokens(job) == cut
    assert client.pieces(job)[-1].finish == "stop"
    assert client.pieces(job)[-1].text == TOKENIZER.decode(cut[:-1])
    client.engine.close()


def test_a_seed_gives_the_same_answers_alone_and_in_company(client: Client) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "seed": 5, "choices": 2}
    alone = client.submit(PROMPTS[2], **options)
    client.pieces(alone)
    crowd = [client.submit(prompt, temperature=1.0) for prompt in PROMPTS[:3]]
    again = client.submit(PROMPTS[2], **options)
    texts = [[(piece.choice, piece.tokens) for piece in client.pieces(job)] for job in (alone, again)]
    assert sorted(texts[0]) == sorted(texts[1])
    assert texts[0][0][1] != texts[0][1][1]
    assert all(client.pieces(job) for job in crowd)


def test_a_stream_says_the_same_as_a_whole_answer(client: Client) -> None:
    whole = client.pieces(client.submit(PROMPTS[4], stops=("zz",)))
    pieces = client.pieces(client.submit(PROMPTS[4], stream=True))
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in whole)


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: Client) -> None:
    text = client.pieces(client.submit(PROMPTS[5]))[-1].text
    stop = text[len(text) // 2 :][:3]
    (piece,) = client.pieces(client.submit(PROMPTS[5], stops=(stop,)))
    assert piece.text == text.split(stop)[0]
    assert piece.finish == "stop"


@pytest.mark.parametrize("width", [2, 4])
def test_beam_search_finds_what_generate_finds(width: int) -> None:
    model = llama()
    client = Client(model)
    jobs = [client.submit(prompt, 12, beams=width) for prompt in PROMPTS[:6]]
    asked = [client.submit(PROMPTS[7], 30)]
    for prompt, job in zip(PROMPTS[:6], jobs, strict=True):
        assert client.tokens(job) == generated(model, prompt, 12, num_beams=width)
    assert client.tokens(asked[0]) == generated(model, PROMPTS[7], 30)
    client.engine.close()


def test_several_beams_come_best_first(client: Client) -> None:
    pieces = client.pieces(client.submit(PROMPTS[6], beams=3, choices=3))
    assert [piece.choice for piece in pieces] == [0, 1, 2]
    assert len({tuple(piece.tokens) for piece in pieces}) == 3


def test_one_that_leaves_frees_its_place_at_once() -> None:
    client = Client(llama(), slots=1, waiting=2)
    gone = client.submit(PROMPTS[0], 110, stream=True)
    waiting = client.submit(PROMPTS[1], 3)
    client.engine.cancel(gone)
    assert client.tokens(waiting) == generated(client.engine.model, PROMPTS[1], 3)
    assert gone.completion_tokens < 110
    client.engine.close()
    assert client.engine.load == 0


def test_more_than_may_wait_are_refused_with_the_figures(client: Client) -> None:
    client.engine.queue = 2
    jobs = [client.submit(PROMPTS[0], 60) for _ in range(6)]
    with pytest.raises(EngineFullError, match="6 sequences run or wait, and at most 6 may"):
        client.submit(PROMPTS[0])
    assert all(client.pieces(job) for job in jobs)
    client.submit(PROMPTS[0])


def test_a_closed_engine_finishes_what_it_took_and_takes_no_more(client: Client) -> None:
    jobs = [client.submit(prompt, 30) for prompt in PROMPTS]
    closing = threading.Thread(target=client.engine.close)
    closing.start()
    answers = [client.tokens(job) for job in jobs]
    closing.join(60)
    assert all(len(answer) == 30 for answer in answers)
    with pytest.raises(EngineClosedError):
        client.submit(PROMPTS[0])


def test_numbers_that_are_not_finite_fail_the_request_and_not_the_engine(client: Client) -> None:
    weight = client.engine.model.get_input_embeddings().weight
    fine = weight.data[7].clone()
    weight.data[7] = float("nan")
    failed = client.pieces(client.submit([5, 7, 5]))[-1]
    weight.data[7] = fine
    assert failed.error == "the model gave numbers that are not finite"
    assert client.ask(PROMPTS[0]) == generated(client.engine.model, PROMPTS[0])


def test_a_crash_of_the_model_fails_its_requests_and_not_the_engine(client: Client) -> None:
    assert client.pieces(client.submit([10**6]))[-1].error == "IndexError"
    assert client.ask(PROMPTS[0]) == generated(client.engine.model, PROMPTS[0])


def test_log_probabilities_are_those_of_a_plain_forward_pass(client: Client) -> None:
    (piece,) = client.pieces(client.submit(PROMPTS[8], logprobs=2))
    whole = torch.tensor([[*PROMPTS[8], *piece.tokens]])
    with torch.no_grad():
        logprobs = client.engine.model(whole).logits[0].log_softmax(-1)
    for place, score in enumerate(piece.scored):
        row = logprobs[len(PROMPTS[8]) - 1 + place]
        assert score.logprob == pytest.approx(float(row[score.token]), abs=1e-4)
        assert score.top[0][0] == score.token


def test_a_model_that_keeps_a_state_is_refused_with_the_engine_that_serves_it() -> None:
    stateful = mistral()
    stateful.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(MoteurError, match=r"layers of kind linear_attention .* set serving\.engine to vllm"):
        Engine(stateful, TOKENIZER, lambda _out: None, slots=2, queue=2, prefill_tokens=8)
