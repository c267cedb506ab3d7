"""Addition: data, losses, text and tokens."""

import math

import pytest
import torch

from explorer.errors import UserError
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition, digit_fourier_basis


@pytest.fixture
def task() -> Addition:
    return Addition(5)


def number(digits: torch.Tensor) -> list[int]:
    return [int("".join(map(str, row))) for row in digits.tolist()]


@pytest.mark.parametrize("n", range(1, 11))
def test_answers_are_the_sums(n):
    task = Addition(n)
    batch = task.sample(200, torch.Generator().manual_seed(n))
    x, y, answer = batch.tokens[:, :n], batch.tokens[:, n + 1 : 2 * n + 1], batch.tokens[:, 2 * n + 2 :]
    assert batch.tokens.shape == (200, task.n_ctx)
    assert (batch.tokens[:, n] == 10).all()
    assert (batch.tokens[:, 2 * n + 1] == 11).all()
    assert number(answer) == [a + b for a, b in zip(number(x), number(y), strict=True)]
    assert torch.equal(batch.targets, answer)
    assert torch.equal(batch.tokens.gather(1, batch.positions + 1), answer)


def test_random_stream_is_the_golden_one(task):
    torch.manual_seed(129000)
    x, y = torch.randint(0, 10, (64, 5)), torch.randint(0, 10, (64, 5))
    batch = task.train_stream(TrainingConfig(seed=129000, batch_size=64)).next()
    assert torch.equal(batch.tokens[:, :5], x)
    assert torch.equal(batch.tokens[:, 6:11], y)


def test_carries_stand_in_column_order_units_first(task):
    batch = task.encode("12345+67890").batch
    carries = task.sums(batch.tokens[:, :5], batch.tokens[:, 6:11]).extra["carries"]
    assert carries.tolist() == [[0, 0, 1, 1, 1, 0]]
    everywhere = task.encode("99999+1").tokens[None]
    assert task.sums(everywhere[:, :5], everywhere[:, 6:11]).extra["carries"].tolist() == [[0, 1, 1, 1, 1, 1]]


def test_loss_of_a_uniform_guess_is_ln_10(task):
    batch = task.sample(8, torch.Generator())
    losses = task.losses(torch.zeros(8, 6, 10), batch)
    assert losses.dtype == torch.float64
    assert losses.shape == (8, 6)
    torch.testing.assert_close(task.per_token(losses, batch), torch.tensor(task.references[0].losses).double())


def test_losses_below_float32_are_not_lost(task):
    batch = task.sample(1, torch.Generator())
    logits = 25.0 * torch.nn.functional.one_hot(batch.targets, 10).float()
    assert task.losses(logits, batch).mean().item() == pytest.approx(9 * math.exp(-25), rel=1e-6)


def test_losses_take_a_snapshot_axis(task):
    batch = task.sample(4, torch.Generator().manual_seed(0))
    logits = torch.randn(3, 4, 6, 10, generator=torch.Generator().manual_seed(0))
    stacked = task.per_token(task.losses(logits, batch), batch)
    for i in range(3):
        assert torch.equal(stacked[i], task.per_token(task.losses(logits[i], batch), batch))


def test_reference_losses_match_the_frequency_of_carries(task):
    """Carries into each column of random sums have the entropy that the references state."""
    carries = task.sample(200_000, torch.Generator().manual_seed(0)).extra["carries"].double().mean(0)
    _, unknown, _ = task.references
    for column in range(1, 6):
        p = carries[column].item()
        entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert unknown.losses[5 - column] == pytest.approx(entropy, abs=2e-3)
    assert unknown.losses[5] == 0
    assert unknown.losses[4] == pytest.approx(0.688, abs=1e-3)
    assert len(task.loss_names) == 6
    assert task.loss_names[-1] == "units"


def test_finite_data_are_one_batch_and_tested_on_others():
    task, training = Addition(2), TrainingConfig(finite=2000, test_batch_size=500, seed=4)
    train = task.train_stream(training)
    first = train.next()
    assert torch.equal(first.tokens, train.next().tokens)
    assert len(first.tokens) == 2000
    known = {tuple(row) for row in first.tokens[:, :5].tolist()}
    test = task.test_stream(training)
    for _ in range(3):
        batch = test.next()
        assert len(batch.tokens) == 500
        assert not known & {tuple(row) for row in batch.tokens[:, :5].tolist()}
        assert number(batch.targets) == [
            a + b for a, b in zip(number(batch.tokens[:, :2]), number(batch.tokens[:, 3:5]), strict=True)
        ]


def test_infinite_data_are_tested_on_another_stream(task):
    training = TrainingConfig()
    train, test = task.train_stream(training).next(), task.test_stream(training).next()
    assert not torch.equal(train.tokens, test.tokens)


def test_streams_go_on_where_they_were(task):
    for training in (TrainingConfig(), TrainingConfig(finite=100)):
        for stream_of in (task.train_stream, task.test_stream):
            stream = stream_of(training)
            stream.next()
            state = stream.state()
            expected = stream.next()
            other = stream_of(training)
            other.restore(state)
            assert torch.equal(other.next().tokens, expected.tokens)


@pytest.mark.parametrize("n", range(1, 11))
def test_examples_and_siblings_are_sums_of_the_task(n):
    task = Addition(n)
    assert len(task.examples) == 5
    for text in task.examples.values():
        example = task.encode(text)
        assert example.text == text
        for sibling in task.siblings(example).values():
            assert task.encode(sibling).text == sibling != text


def test_named_examples_carry_as_they_say(task):
    def carries(name):
        tokens = task.encode(task.examples[name]).tokens[None]
        return int(task.sums(tokens[:, :5], tokens[:, 6:11]).extra["carries"].sum())

    assert carries("no carry") == 0
    assert carries("one carry") == 1
    assert carries("a chain of carries") == 5
    assert task.examples["all nines"] == "99999+00001"


def test_siblings_carry_as_they_say(task):
    siblings = task.siblings(task.encode("12340+67890"))
    assert set(siblings) == {"one carry through nines", "a carry from every column"}
    for text in siblings.values():
        tokens = task.encode(text).tokens[None]
        assert task.sums(tokens[:, :5], tokens[:, 6:11]).extra["carries"].tolist() == [[0, 1, 1, 1, 1, 1]]
    through = task.encode(siblings["one carry through nines"]).tokens
    assert (through[:5] + through[6:11]).tolist() == [9, 9, 9, 9, 10]


@pytest.mark.parametrize(
    "typed",
    [
        "12345+67890",
        "12345 + 67890 =",
        " 1 2 3 4 5+67890=080235",
        "12345+67890=80235",
        "12345\n+67890\n",
        "0012345+67890",
    ],
)
def test_sums_are_read_however_they_are_written(task, typed):
    example = task.encode(typed)
    assert example.text == "12345+67890"
    assert ("is right" in example.note) == ("80235" in typed)
    assert example.targets.tolist() == [0, 8, 0, 2, 3, 5]
    assert example.n_prompt == 12


def test_short_numbers_are_filled_with_zeros(task):
    assert task.encode("7+8").text == "00007+00008"


def test_a_wrong_answer_is_pointed_out(task):
    example = task.encode("12345+67890=80236")
    assert "80236" in example.note
    assert "80235" in example.note
    assert example.targets.tolist() == [0, 8, 0, 2, 3, 5]


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        "abc",
        "12345",
        "12345+",
        "+67890",
        "1+2+3",
        "-1+2",
        "1.5+2",
        "١٢٣٤٥+٦٧٨٩٠",
        "123456+1",
        "1" * 100_000,
        "🙂",
    ],
)
def test_what_is_no_sum_gets_one_sentence_that_says_what_to_type(task, typed):
    with pytest.raises(UserError) as refused:
        task.encode(typed)
    sentence = str(refused.value)
    assert sentence.endswith("such as 12345+67890.")
    assert "\n" not in sentence
    assert len(sentence) < 200


def test_text_and_tokens_go_round(task):
    tokens = task.encode("12345+67890").tokens
    text = task.tokens_to_string(tokens)
    assert text == "  12345\n +67890\n=080235"
    assert torch.equal(task.string_to_tokens(text), tokens)
    assert task.string_to_tokens("1+2=", batch=True).tolist() == [[1, 10, 2, 11]]
    with pytest.raises(UserError, match="'x' is not part of a sum"):
        task.string_to_tokens("1x2")


def test_written_sum_shows_carries_and_mistakes_in_their_columns(task):
    lines = task.written(task.encode("12345+67890"), [0, 8, 1, 2, 3, 5]).split("\n")
    assert lines == [" ·111··  carries", "  12345", " +67890", "=080235", "", " 081235  model", "   ^     wrong"]
    assert "right" in task.written(task.encode("12345+67890"), [0, 8, 0, 2, 3, 5])


def test_fourier_basis_is_orthonormal():
    names, basis = digit_fourier_basis()
    assert len(names) == 10
    torch.testing.assert_close(basis @ basis.T, torch.eye(10, dtype=torch.float64))
    cosine = torch.cos(2 * math.pi * 3 * torch.arange(10) / 10).double()
    components = basis @ cosine
    assert components[names.index("cos 3")].item() == pytest.approx(math.sqrt(5))
    assert components.abs().sum().item() == pytest.approx(math.sqrt(5), abs=1e-5)


@pytest.mark.parametrize("n", [0, 11])
def test_impossible_numbers_of_digits_are_refused(n):
    with pytest.raises(UserError, match="between 1 and 10"):
        Addition(n)


def test_more_training_sums_than_there_are_to_test_on_are_refused():
    with pytest.raises(UserError, match="has only 100 sums"):
        Addition(1).test_stream(TrainingConfig(finite=51))
