"""Modular addition: the golden split, the four functions, typed pairs."""

import dataclasses
import math
import random

import pytest
import torch

from explorer.errors import UserError
from explorer.settings import TrainingConfig
from explorer.tasks.modular_addition import ModularAddition

TASK = ModularAddition()
TRAINING = TrainingConfig()


def test_the_split_is_the_golden_one():
    pairs = [(x, y) for x in range(113) for y in range(113)]
    random.seed(0)
    random.shuffle(pairs)
    learnt, tested = TASK.training_set(TRAINING), TASK.test_stream(TRAINING).next()
    assert (len(learnt.tokens), len(tested.tokens)) == (3830, 8939)
    assert learnt.tokens[:, :2].tolist() == [list(pair) for pair in pairs[:3830]]
    assert tested.tokens[:, :2].tolist() == [list(pair) for pair in pairs[3830:]]
    assert (learnt.tokens[:, 2] == 113).all()
    assert not torch.equal(TASK.training_set(dataclasses.replace(TRAINING, seed=1)).tokens, learnt.tokens)


@pytest.mark.parametrize(
    ("function", "x", "y", "answer"),
    [("add", 37, 95, 19), ("subtract", 37, 95, 55), ("quadratic", 3, 5, 49), ("quadratic", 100, 99, 95)],
)
def test_functions(function, x, y, answer):
    task = ModularAddition(function=function)
    example = task.encode(f"{x},{y}")
    assert example.targets.tolist() == [answer]
    assert f"= {answer} " in task.written(example, [answer])


def test_the_random_table_is_the_same_each_time():
    task = ModularAddition(p=31, function="random", train_share=0.5)
    batch = task.training_set(TRAINING)
    again = ModularAddition(p=31, function="random", train_share=0.5).training_set(TRAINING)
    assert torch.equal(batch.targets, again.targets)
    assert (batch.targets[:, 0] == (batch.tokens[:, 0] + batch.tokens[:, 1]) % 31).float().mean() < 0.15
    assert len(batch.targets.unique()) == 31


@pytest.mark.parametrize("typed", ["37+95", " 37 + 95 =", "37 95", "37,95=19", "037+95=20"])
def test_pairs_are_read_however_they_are_written(typed):
    example = TASK.encode(typed)
    assert example.text == "37+95"
    assert example.tokens.tolist() == [37, 95, 113]
    assert example.targets.tolist() == [19]
    verdict = {"19": "'19' is right", "20": "'20' is wrong: 37 + 95 = 19 modulo 113"}.get(typed.partition("=")[2], "")
    assert verdict in example.note


@pytest.mark.parametrize(("typed", "said"), [("113+1", "'113' is not below 113"), ("37-95", "is not a pair")])
def test_invalid_pairs_are_refused(typed, said):
    with pytest.raises(UserError, match=said):
        TASK.encode(typed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"p": 15}, "15, which is no prime; take 17"),
        ({"p": 3}, "between 5 and 251"),
        ({"p": 257}, "between 5 and 251"),
        ({"p": 5, "train_share": 0.01}, "none for training"),
        ({"train_share": 1.5}, "train_share is 1.5"),
        ({"function": "divide"}, "function is 'divide'"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        ModularAddition(**settings)


@pytest.mark.parametrize("p", [5, 251])
def test_smallest_and_largest_prime(p):
    task = ModularAddition(p=p)
    assert len(task.training_set(TRAINING).tokens) == int(0.3 * p * p)
    assert task.encode(next(iter(task.examples.values()))).targets.max() < p


def test_the_equals_sign_may_be_an_output():
    task = ModularAddition(equals_output=True)
    assert task.answer_tokens == task.tokens == (*TASK.answer_tokens, "=")
    assert task.references[0].losses[0] == pytest.approx(math.log(114))
    example = task.encode("37+95")
    assert task.written(example, [113]).endswith("model: =  wrong")
    assert task.written(example, [112]).endswith("model: 112  wrong, off by 20")
    assert task.cycle == TASK.cycle
    assert task.classes(5, 0) == TASK.classes(5, 0)


def test_a_number_of_training_examples_is_refused():
    with pytest.raises(UserError, match="set train_share"):
        TASK.train_stream(TrainingConfig(finite=100))


def test_training_data_may_be_infinite():
    task = ModularAddition(p=13, train_share=1.0)
    stream = task.train_stream(TrainingConfig(batch_size=4000))
    seen = {tuple(row) for row in stream.next().tokens.tolist()}
    assert len(seen) == 169


@pytest.mark.parametrize(
    ("function", "names"), [("add", ("x + y < 13", "x + y ≥ 13")), ("subtract", ("x ≥ y", "x < y"))]
)
def test_classes_are_of_pairs_that_wrap_around_and_of_pairs_that_do_not(function, names):
    classes = ModularAddition(p=13, function=function).classes(200, seed=0)["wrapping"]
    x, y = classes.batch.tokens[:, 0], classes.batch.tokens[:, 1]
    plain = x + y if function == "add" else x - y
    assert classes.names == names
    assert torch.equal(classes.labels == 0, plain == classes.batch.targets[:, 0])
