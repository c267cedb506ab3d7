"""Skip trigrams: the golden stream, losses by trigram, the recorded gradient, the table model."""

import pytest
import torch

from explorer.errors import UserError
from explorer.model.architectures import new_model, weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.model.table import TableModel
from explorer.settings import TrainingConfig
from explorer.tasks.skip_trigram import PATTERN, SkipTrigram
from explorer.training.loop import Training

TASK = SkipTrigram()
TRANSFORMER = TASK.model_config(**TASK.presets["quick"].model)
TABLE = TASK.model_config(**TASK.presets["table"].model)


def test_a_text_is_begin_letters_and_end_with_one_trigger():
    batch = TASK.sample(500, torch.Generator().manual_seed(0))
    assert (batch.tokens[:, 0] == 0).all()
    assert (batch.tokens[:, -1] == 1).all()
    letters = batch.tokens[:, 1:-1]
    assert ((letters >= 12).sum(1) == 1).all()
    assert ((letters >= 2) & (letters < 22)).all()
    trigger = batch.tokens[torch.arange(500), batch.extra["trigger"]]
    assert torch.equal(trigger - 12, batch.targets[:, 0])
    assert set(batch.targets[:, 0].tolist()) == set(range(10))
    assert (batch.positions == 41).all()


def test_the_stream_is_letters_then_trigrams_then_places():
    rng = torch.Generator().manual_seed(6798)
    letters = torch.randint(2, 12, (256, 40), generator=rng)
    trigram = torch.randint(0, 10, (256,), generator=rng)
    place = torch.randint(1, 41, (256,), generator=rng)
    letters[torch.arange(256), place - 1] = 12 + trigram
    batch = TASK.train_stream(TASK.presets["notebook"].training).next()
    assert torch.equal(batch.tokens[:, 1:-1], letters)


def test_a_trigram_can_be_forced():
    batch = TASK.sample(50, torch.Generator().manual_seed(0), trigram=3)
    assert (batch.targets == 3).all()
    assert ((batch.tokens == 15).sum(1) == 1).all()


def test_losses_are_averaged_by_trigram_and_nan_where_there_is_none():
    batch = TASK.sample(30, torch.Generator().manual_seed(1)).rows(slice(0, 4))
    losses = torch.arange(4.0).double()[:, None]
    per_token = TASK.per_token(losses, batch)
    for trigram in range(10):
        rows = batch.targets[:, 0] == trigram
        if rows.any():
            assert per_token[trigram] == losses[rows].mean()
        else:
            assert per_token[trigram].isnan()


@pytest.mark.parametrize("cfg", [TRANSFORMER, TABLE], ids=["transformer", "table"])
def test_the_recorded_gradient_is_that_of_the_loss_at_the_attention_to_the_trigger(cfg):
    training = Training(TASK, cfg, TrainingConfig(batch_size=40, seed=2))
    batch = TASK.train_stream(training.training).next()
    _, cache = training.model.run_with_cache(
        batch.tokens, [PATTERN], lambda logits: TASK.losses(batch.at_answers(logits), batch).mean()
    )
    measured, _ = next(training.updates())
    gradient = cache[f"{PATTERN}_grad"][torch.arange(40), 0, 41, batch.extra["trigger"]].double()
    for trigram in range(10):
        rows = batch.targets[:, 0] == trigram
        if rows.any():
            expected = 40 * gradient[rows].mean().item()  # of each text's own loss, not of the mean of 40
            assert measured.measures["attention_gradient"][trigram].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_the_recorded_gradient_does_not_depend_on_the_size_of_the_batch(n):
    """The same texts, once or several times."""
    model, once = new_model(TRANSFORMER, seed=2), TASK.sample(40, torch.Generator().manual_seed(0))
    found = []
    for batch in (once, once.rows(torch.arange(40).repeat(n))):
        loss = lambda logits, batch=batch: TASK.losses(batch.at_answers(logits), batch).mean()  # noqa: E731
        logits, cache = model.run_with_cache(batch.tokens, [PATTERN], loss)
        gradients = {PATTERN: cache[f"{PATTERN}_grad"]}
        found.append(TASK.measure(batch.at_answers(logits), batch, gradients)["attention_gradient"])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6, equal_nan=True)


# --- Its settings ---


def test_triggers_letters_and_answers_follow_the_settings():
    task = SkipTrigram(n_triggers=26, n_letters=16)
    assert "".join(task.tokens) == "^=abcdefghijABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert (task.answer_tokens[-1], task.loss_names[-1], task.n_ctx) == ("25", "Z → 25", 18)
    example = task.encode("abZ = 25")
    assert example.targets.tolist() == [25]
    assert "'25' is right: Z goes with 25" in example.note
    assert task.written(example, [25]).startswith("abZ")
    assert task.siblings(example)["A instead of Z"].startswith("abA")
    assert "Z in the middle" in task.examples
    few = SkipTrigram(n_triggers=2)
    with pytest.raises(UserError, match=r"'C' is not a letter of this task; type up to 40 letters .* A to B"):
        few.encode("abC")


@pytest.mark.parametrize("settings", [{"n_triggers": 1}, {"n_triggers": 27}, {"n_letters": 15}, {"n_letters": 161}])
def test_settings_beyond_their_limits_are_refused(settings):
    with pytest.raises(UserError, match="must lie between"):
        SkipTrigram(**settings)


def test_each_trigger_has_an_example_and_a_class():
    task = SkipTrigram(n_triggers=12)
    in_the_middle = [name for name in task.examples if name.endswith("in the middle")]
    assert sorted(in_the_middle) == [f"{trigger} in the middle" for trigger in "ABCDEFGHIJKL"]
    assert {task.examples[name][19] for name in in_the_middle} == set("ABCDEFGHIJKL")
    classes = task.classes(20, seed=0)["trigger"]
    assert classes.names == task.loss_names
    assert torch.equal(classes.labels, classes.batch.targets[:, 0])


def test_typed_letters_are_filled_up_and_answers_checked():
    example = TASK.encode(" ab C d = 3")
    assert example.text == "abCd"
    assert "Filled up" in example.note
    assert "'3' is wrong: C goes with 2" in example.note
    assert "".join(TASK.tokens[token] for token in example.tokens[:5]) == "^abCd"
    assert (len(example.tokens), example.targets.tolist(), example.places) == (42, [2], ("C → 2",))


@pytest.mark.parametrize(
    ("typed", "said"),
    [("abc", "no triggers"), ("aBCd", "2 triggers"), ("abKd", "'K' is not a letter"), ("a" * 41, "41 letters")],
)
def test_invalid_texts_are_refused(typed, said):
    with pytest.raises(UserError, match=said):
        TASK.encode(typed)


# --- The table model ---


def test_the_table_is_a_softmax_of_scores_over_rows():
    model = new_model(TABLE, seed=3)
    assert isinstance(model, TableModel)
    tokens = TASK.sample(6, torch.Generator().manual_seed(0)).tokens
    logits, cache = model.run_with_cache(tokens)
    scores, rows = model.blocks[0].attn.QK.detach(), model.blocks[0].attn.OV.detach()
    for text, said, pattern in zip(tokens, logits, cache[PATTERN], strict=True):
        attention = scores[text].softmax(0)
        torch.testing.assert_close(pattern[0, -1], attention)
        torch.testing.assert_close(said[-1], attention @ rows[text])
        torch.testing.assert_close(pattern[0, 4, :5], scores[text[:5]].softmax(0))


def test_the_table_is_drawn_scores_first():
    rng = torch.Generator().manual_seed(3)
    model = new_model(TABLE, seed=3)
    assert torch.equal(model.blocks[0].attn.QK, torch.randn(22, generator=rng) / 22**0.5)
    assert torch.equal(model.blocks[0].attn.OV, torch.randn(22, 10, generator=rng) / 22**0.5)
    assert weight_shapes(TABLE) == {"blocks.0.attn.QK": (22,), "blocks.0.attn.OV": (22, 10)}


def test_a_stack_of_tables_gives_what_each_gives():
    models = [new_model(TABLE, seed) for seed in range(3)]
    stacked = {name: torch.stack([m.state_dict()[name] for m in models]) for name in weight_shapes(TABLE)}
    batch = TASK.sample(4, torch.Generator().manual_seed(0))
    names = models[0].hook_names

    def loss(logits):
        return TASK.losses(batch.at_answers(logits), batch).mean((-2, -1))

    logits, cache = Ensemble(TABLE, (0, 1, 2), stacked).run(batch.tokens, names, loss)
    for i, model in enumerate(models):
        one, own = model.run_with_cache(batch.tokens, names, loss)
        torch.testing.assert_close(logits[i], one)
        for name, values in own.items():
            torch.testing.assert_close(cache[name][i], values, rtol=1e-4, atol=1e-7)


def test_the_table_learns_to_attend_to_triggers():
    preset = TASK.presets["table"]
    training = Training(TASK, TABLE, preset.training)
    losses = [measured.loss for measured, _ in training.updates()]
    scores, rows = training.model.blocks[0].attn.QK.detach(), training.model.blocks[0].attn.OV.detach()
    assert losses[0] > 2
    assert losses[-1] < 0.1
    assert scores[12:].min() > scores[:12].max()
    assert torch.equal(rows[12:].argmax(1), torch.arange(10))


def test_a_table_has_one_head():
    with pytest.raises(UserError, match="one layer with one head"):
        TASK.model_config(architecture="table")


def test_classes_are_texts_by_the_third_of_their_trigger():
    task = SkipTrigram()
    classes = task.classes(500, seed=0)["place"]
    batch = classes.batch
    assert classes.about[1] == "the trigger is one of letters 14 to 26"
    triggers = batch.tokens >= 12
    assert (triggers.sum(1) == 1).all()
    assert torch.equal(triggers.long().argmax(1), batch.extra["trigger"])
    assert torch.equal(batch.tokens[triggers] - 12, batch.targets[:, 0])
    for third, places in enumerate([range(1, 14), range(14, 27), range(27, 41)]):
        assert set(batch.extra["trigger"][classes.labels == third].tolist()) == set(places)
