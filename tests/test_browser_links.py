"""Links in a real browser: whatever is chosen is in the address, opens in a fresh browser, and Back goes back."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.options import Choice, Context, FreeText, Number, Several, Switch, options_of, resolve, texts_of
from explorer.runs import Runs
from explorer.scene import Scene, read
from explorer.views.opening import open_scene
from explorer.views.subject import Subject
from explorer.views.view import View
from tests.browser import FILM, needs_chromium, place, stands_at
from tests.conftest import RUN_VIEWS

pytestmark = needs_chromium
PLACE = "() => location.pathname + location.search"


def links(view: View, subject: Subject) -> list[tuple[Scene, set[str]]]:
    """Scenes in which, together, each option of a view has an effect and is not the default; with their names."""
    example, kind = subject.first_example, view.options_type
    declared = options_of(kind)
    found: list[tuple[dict[str, str], set[str]]] = []
    for name in declared:
        for texts, names in found:
            more = with_option(kind, subject, name, texts)
            if (
                more is not None
                and names <= dict(texts_of(resolve(kind, subject, example, more)[0], subject, example)).keys()
            ):
                texts.update(more)
                names.add(name)
                break
        else:
            found.append(alone(kind, subject, name))
    scenes = []
    for texts, names in found:
        options, problems = resolve(kind, subject, example, texts)
        assert problems == []
        scenes.append((Scene(view.name, subject.name, 20, example, texts_of(options, subject, example)), names))
    return scenes


def alone(kind: type, subject: Subject, name: str) -> tuple[dict[str, str], set[str]]:
    """Texts of earlier options with which an option has an effect, and its own, which is not the default."""
    declared = list(options_of(kind))
    for chosen in choices_of(kind, subject, declared[: declared.index(name)], {}):
        texts = with_option(kind, subject, name, chosen)
        if texts is not None:
            return texts, {name}
    raise AssertionError(f"{name} never has an effect")


def choices_of(kind: type, subject: Subject, names: list[str], chosen: dict[str, str]) -> Iterator[dict[str, str]]:
    """The texts of every combination of the choices that have an effect, after those that are made already."""
    if not names:
        yield chosen
        return
    option, values = options_of(kind)[names[0]], context_of(kind, subject, chosen, names[0])
    if isinstance(option, Choice) and option.has_effect(values):
        for value in option.choices_at(values):
            yield from choices_of(kind, subject, names[1:], {**chosen, names[0]: option.text_of(value)})
    else:
        yield from choices_of(kind, subject, names[1:], chosen)


def context_of(kind: type, subject: Subject, texts: dict[str, str], name: str) -> Context:
    """What the option of a name may depend on."""
    options, _ = resolve(kind, subject, subject.first_example, texts)
    declared = list(options_of(kind))
    earlier = {other: getattr(options, other) for other in declared[: declared.index(name)]}
    return Context(subject, subject.first_example, earlier)


def with_option(kind: type, subject: Subject, name: str, texts: dict[str, str]) -> dict[str, str] | None:
    """Texts and that of an option's value that is not the default; None if it has no effect or no other value."""
    option, context = options_of(kind)[name], context_of(kind, subject, texts, name)
    text = other_than_default(option, context) if option.has_effect(context) else None
    return None if text is None or name in texts else {**texts, name: text}


def other_than_default(option, context: Context) -> str | None:
    """The text of a value that is not the default; None if there is none."""
    match option:
        case Choice():
            others = [value for value in option.choices_at(context) if value != option.default(context)]
            return option.text_of(others[-1]) if others else None
        case Several():
            others = [value for value in option.choices_at(context) if value not in option.default(context)]
            return option.text_of((others[0], others[-1])) if others else None
        case Number():
            return option.text_of(option.limits(context)[1])
        case Switch():
            return "on"
        case FreeText():
            return "11+22"


def control(page: Page, view: str, name: str) -> Locator:
    return page.locator(f".st-key-{view}-{name}")


def shows(page: Page, view: View, subject: Subject, scene: Scene, name: str) -> None:
    """The widget of an option shows what the scene says."""
    options, _ = resolve(view.options_type, subject, scene.example, dict(scene.options))
    declared = options_of(view.options_type)
    values = {other: getattr(options, other) for other in declared}
    option, value = declared[name], values[name]
    context = Context(subject, scene.example, values)
    where = control(page, view.name, name)
    match option:
        case Choice(widget="buttons"):
            expect(where.locator("[aria-checked=true]")).to_have_text(option.choices_at(context)[value])
        case Choice(widget="slider"):
            expect(where.get_by_role("slider")).to_have_attribute("aria-valuetext", option.choices_at(context)[value])
        case Choice():
            expect(where.get_by_role("combobox")).to_have_value(option.choices_at(context)[value])
        case Several():
            for one in value:
                expect(where).to_contain_text(option.choices_at(context)[one])
        case Number() | FreeText():
            expect(where.locator("input").first).to_have_value(str(value))
        case Switch():
            expect(where.locator("input")).to_be_checked()


@pytest.mark.parametrize("view", RUN_VIEWS.values(), ids=RUN_VIEWS)
def test_a_link_opens_every_option_in_a_fresh_browser(browse, app_folder, view):
    runs = Runs(app_folder)
    subject = Subject.load(runs.open("trigrams" if view.name in ("heads", "losses") else "small"))
    seen: set[str] = set()
    for link, names in links(view, subject):
        scene = open_scene(str(link), runs).scene  # in full
        page = browse(f"/{scene}")
        if any(options_of(view.options_type)[name].place == "more" for name in names):
            page.get_by_test_id("stExpander").locator("summary").click()
        for name in names:
            assert name in dict(scene.options)
            shows(page, view, subject, scene, name)
        seen |= names
        page.wait_for_function("query => location.search === '?' + query", arg=scene.query)
        assert page.get_by_test_id("stAlertContentWarning").count() == 0
        page.context.close()
    assert seen == set(options_of(view.options_type))


def test_every_choice_survives_a_reload(browse):
    page = browse("/cut?run=small&step=20")
    page.get_by_role("combobox", name="Ablate").click()
    page.get_by_role("option", name="L1H1").click()
    page.keyboard.press("Escape")
    page.get_by_text("mean", exact=True).click()
    page.wait_for_function("() => location.search.endsWith('mode=mean&off=L0H0,L1H1')")
    title = page.locator(".panel.tokens h3").nth(1)
    expect(title).to_have_text("L0H0, L1H1 ablated (mean)")
    page.reload()
    expect(title).to_have_text("L0H0, L1H1 ablated (mean)")
    expect(control(page, "cut", "mode").locator("[aria-checked=true]")).to_have_text("mean")
    stands_at(page, 20)


def test_back_goes_back_one_page_or_run_a_press(browse):
    page = browse("/overview?run=small&step=0")
    at = page.evaluate("history.length")
    for key, step in (("End", 40), ("ArrowLeft", 30)):
        page.keyboard.press(key)
        stands_at(page, step)
        page.wait_for_function("step => new URLSearchParams(location.search).get('step') === String(step)", arg=step)
    assert page.evaluate("history.length") == at  # steps replace the entry
    first = page.evaluate(PLACE)

    page.get_by_role("link", name="Heads").click()
    page.wait_for_url("**/heads?*")
    expect(page.locator(".panel.heatmaps h3")).to_contain_text("Attention patterns on")
    control(page, "heads", "of").get_by_text("scores").click()
    page.wait_for_function("() => location.search.includes('of=scores')")
    second = page.evaluate(PLACE)

    page.get_by_label("Run").first.click()
    page.get_by_role("option", name="finite").click()
    page.wait_for_function("() => location.search.includes('run=finite') && location.search.includes('of=scores')")
    third = page.evaluate(PLACE)
    assert page.evaluate("history.length") == at + 2

    went = [(page.go_back, second, "small"), (page.go_back, first, "small")]
    went += [(page.go_forward, second, "small"), (page.go_forward, third, "finite")]
    for go, there, run in went:
        go()
        page.wait_for_function(f"there => ({PLACE})() === there", arg=there)
        expect(page.get_by_label("Run").first).to_have_value(run)
        stands_at(page, read(there)[0].step)
    assert page.evaluate("history.length") == at + 2


def test_back_leaves_a_link_to_a_run_that_does_not_exist(browse):
    page = browse("/weights?run=small&step=20")
    page.goto(page.url.replace("run=small", "run=nope"))
    page.wait_for_function("() => location.search.includes('run=copies')")
    page.go_back()
    page.wait_for_function("() => location.search.includes('run=small')")
    expect(page.get_by_label("Run").first).to_have_value("small")


def test_switches_of_the_player_are_in_the_address_and_open_in_a_fresh_browser(browse):
    page = browse("/overview?run=learnt&step=100")
    losses, maps = page.locator(".panel.curves"), page.locator(".panel.heatmaps")
    runs = []
    page.on("websocket", lambda socket: runs.append(socket))
    losses.get_by_role("button", name="log", exact=True).click()
    losses.get_by_role("button", name="smooth", exact=True).click()
    losses.locator(".key").nth(1).click()
    page.wait_for_function("() => location.search.includes('losses.smooth:off')")
    maps.get_by_role("button", name="rescale").click()
    maps.locator(".stage").click(position={"x": 30, "y": 50})
    name = page.locator(".panel.curves .key").nth(1).text_content().rstrip("0123456789.–")
    expected = sorted(
        ["losses.log", "losses.smooth:off", f"losses.hidden:{name}", "patterns.rescale", "patterns.enlarged:L0H0"]
    )
    page.wait_for_function(
        "tokens => new URLSearchParams(location.search).get('player') === tokens", arg=" ".join(expected)
    )
    length = page.evaluate("history.length")
    address = place(page)

    page.keyboard.press("End")  # a rerun leaves them where they are
    stands_at(page, 400)
    page.wait_for_function("() => location.search.includes('step=400') && location.search.includes('losses.log')")
    assert page.evaluate("history.length") == length

    fresh = browse(address)
    losses, maps = fresh.locator(".panel.curves"), fresh.locator(".panel.heatmaps")
    stands_at(fresh, 100)
    expect(losses.get_by_role("button", name="log", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(losses.get_by_role("button", name="smooth", exact=True)).to_have_attribute("aria-pressed", "false")
    expect(losses.locator(".key").nth(1)).to_have_attribute("aria-pressed", "false")
    expect(maps.get_by_role("button", name="rescale")).to_have_attribute("aria-pressed", "true")
    expect(maps.locator(".stage")).to_have_class("stage zoomed")
    assert place(fresh) == address


def test_switches_of_a_link_win_over_those_of_the_page_before(browse):
    page = browse("/overview?run=small&step=20")
    page.locator(".panel.curves").get_by_role("button", name="log", exact=True).click()
    page.wait_for_function("() => location.search.includes('losses.log')")
    page.get_by_role("link", name="Heads").click()
    page.wait_for_url("**/heads?*")
    page.wait_for_function("() => location.search.includes('losses.log')")  # losses are the same panel there
    log = page.locator(".panel.curves").get_by_role("button", name="log", exact=True)
    expect(log).to_have_attribute("aria-pressed", "true")
    log.click()
    page.wait_for_function("() => !location.search.includes('player=')")
    page.go_back()
    page.wait_for_function("() => location.pathname === '/overview' && location.search.includes('losses.log')")
    expect(log).to_have_attribute("aria-pressed", "true")


def test_the_link_is_copied_as_it_is_in_the_address(browse):
    page = browse("/heads?run=small&step=20&of=scores", permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("End")
    page.wait_for_function("() => location.search.includes('step=40')")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()) === location.href")


def test_a_link_with_much_that_does_not_fit_says_each_thing_once(browse):
    page = browse("/heads?run=small&run=finite&step=19&show=all&colour=red&player=x")
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_have_count(1)
    for said in ("'run' is given 2 times", "'x' is no switch", "the nearest is at step 20", "no option 'colour'"):
        expect(alert).to_contain_text(said)
    expect(alert).to_contain_text("show is 'all'; it can be one, mean, heads.")
    control(page, "heads", "of").get_by_text("scores").click()
    expect(alert).to_have_count(0)
    assert page.evaluate("film => film.player.film.steps.length", page.evaluate_handle(FILM)) > 1
