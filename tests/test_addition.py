"""Addition: data, losses, text and tokens."""

import math

import pytest
import torch

from explorer.errors import UserError
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition, carry_class


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


def test_carries_are_in_column_order_units_first(task):
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


def test_losses_below_the_precision_of_float32_are_exact(task):
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


def test_streams_resume_from_their_state(task):
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
    assert set(siblings) == {"no carry", "one carry through nines", "a carry from every column"}
    assert task.described(task.encode(siblings.pop("no carry"))) == "no column carries"
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
def test_invalid_sums_get_one_sentence_that_says_what_to_type(task, typed):
    with pytest.raises(UserError) as refused:
        task.encode(typed)
    sentence = str(refused.value)
    assert sentence.endswith("such as 12345+67890.")
    assert "\n" not in sentence
    assert len(sentence) < 200


def test_text_and_tokens_round_trip(task):
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


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("12345+54321", 0),  # 6 6 6 6 6
        ("44444+55555", 0),  # nines, but nothing to pass on
        ("90000+00000", 0),
        ("00005+00005", 1),
        ("55555+55555", 1),  # every column makes a carry of its own
        ("50905+50005", 1),  # the nine is not next to a carry
        ("90009+00001", 1),  # neither is this one
        ("99999+90000", 1),  # what leaves the leading column counts no further
        ("00095+00005", 2),  # through the tens
        ("95000+05000", 2),  # through the leading column
        ("12345+67890", 2),  # 7 9 11 13 5: the carry of the hundreds goes through the thousands
        ("09509+00501", 2),  # through the thousands, and a chain of one
        ("00995+00005", 3),
        ("99509+00501", 3),  # the longest counts, not the lowest
        ("09995+00005", 4),
        ("99999+00001", 5),
        ("45454+54546", 5),
    ],
)
def test_carry_classes_of_sums_worked_out_by_hand(typed, expected):
    x, y = (torch.tensor([[int(digit) for digit in term]]) for term in typed.split("+"))
    assert carry_class(x, y).tolist() == [expected]


def test_carry_classes_have_their_known_frequencies(task):
    """Among uniform sums: 5.03, 77.7, 16.0, 1.2, 0.09 and 0.0045 %."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 10, (2, 400_000, 5), generator=rng)
    shares = carry_class(x, y).bincount(minlength=6) / len(x)
    for k, (expected, within) in enumerate([(5.03, 0.15), (77.7, 0.3), (16.0, 0.3), (1.2, 0.1), (0.09, 0.03)]):
        assert 100 * shares[k].item() == pytest.approx(expected, abs=within), k
    assert shares[5] < 1e-4
    assert shares.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_examples_of_carry_classes_are_of_their_class(n):
    classes = Addition(n).classes(40, seed=1)["carries"]
    assert classes.names == ("S0", "S1", "S2", "S3", "S4", "S5")[: n + 1]
    x, y = classes.batch.tokens[:, :n], classes.batch.tokens[:, n + 1 : 2 * n + 1]
    assert torch.equal(carry_class(x, y), classes.labels)
    assert number(classes.batch.targets) == [a + b for a, b in zip(number(x), number(y), strict=True)]


def test_examples_of_a_carry_class_are_uniform(task):
    """Shares of digits and of carrying columns, against those of uniform sums that happen to be of the class."""
    x, y = torch.randint(0, 10, (2, 300_000, 5), generator=torch.Generator().manual_seed(0))
    happens, classes = carry_class(x, y), task.classes(20_000, seed=0)["carries"]
    for k in (0, 1, 2):
        some = happens == k
        tokens = classes.batch.tokens[classes.labels == k]
        for found, expected in ((tokens[:, :5], x[some]), (tokens[:, 6:11], y[some])):
            assert (found.double().mean(0) - expected.double().mean(0)).abs().max() < 0.1
            assert (found.double().std(0) - expected.double().std(0)).abs().max() < 0.1
        carries = ((tokens[:, :5] + tokens[:, 6:11]) >= 10).double().mean(0)
        assert (carries - (x + y >= 10)[some].double().mean(0)).abs().max() < 0.02


def test_a_grid_has_all_pairs_of_digits_in_its_column(task):
    assert tuple(task.cycle.grids) == ("units", "tens", "hundreds", "thousands", "10k")
    batch = task.cycle.grids["tens"].batch
    assert batch.tokens[38].tolist() == task.encode("30+80").tokens.tolist()
    assert batch.positions[38].tolist() == [15]  # the model has read = 0 0 0 1, and is to say 1
    assert batch.targets[38].tolist() == [1]
    assert batch.targets[:, 0].tolist() == [(x + y) % 10 for x in range(10) for y in range(10)]


@pytest.mark.parametrize("n", [0, 11])
def test_impossible_numbers_of_digits_are_refused(n):
    with pytest.raises(UserError, match="between 1 and 10"):
        Addition(n)


def test_more_training_sums_than_there_are_to_test_on_are_refused():
    with pytest.raises(UserError, match="has only 100 sums"):
        Addition(1).test_stream(TrainingConfig(finite=51))
