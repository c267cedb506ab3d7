"""Nothing jumps while one goes from view to view in a real browser."""

from playwright.sync_api import Page

from explorer.options import resolve
from explorer.runs import Runs
from explorer.views.subject import Subject
from explorer.views.view import View
from tests.browser import FILM, needs_chromium
from tests.conftest import RUN_VIEWS

pytestmark = needs_chromium

MOST = 0.05  # cumulative layout shift, as web vitals define it, which call 0.1 good
WATCH = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries())).observe({ type: 'layout-shift' });
}"""
# The largest sum of shifts less than a second apart, within five seconds.
SHIFTED = """() => {
    let [most, sum, first, last] = [0, 0, -Infinity, -Infinity];
    for (const { value, startTime } of window.shifts.splice(0)) {
        if (startTime - last > 1000 || startTime - first > 5000) [sum, first] = [0, startTime];
        [sum, last] = [sum + value, startTime];
        most = Math.max(most, sum);
    }
    return most;
}"""
BUSY = "[data-testid=stSkeleton], [data-testid=stSpinner], [data-testid=stProgress], [data-stale=true]"
SETTLED = f"""(heading) => document.querySelector('h1')?.textContent === heading
    && document.querySelector('[data-test-script-state=notRunning]')
    && !document.querySelector('{BUSY}') && {FILM}?.dataset.step"""
PAINTED = (
    "() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve))))"
)


def shift(page: Page, view: View) -> float:
    """The cumulative layout shift while one goes to a view. A click by script is no input, after which what moves
    within half a second would not count."""
    page.evaluate("() => { scrollTo(0, 0); window.shifts = []; }")
    page.locator(".st-key-views").get_by_role("link", name=view.title).evaluate("(link) => link.click()")
    page.wait_for_function(SETTLED, arg=view.heading)
    page.evaluate(PAINTED)
    return page.evaluate(SHIFTED)


def has_film(view: View, subject: Subject) -> bool:
    options, _ = resolve(view.options_type, subject, subject.first_example, {})
    return not view.unavailable(subject, subject.first_example, options)


def test_nothing_jumps_from_view_to_view(browse, app_folder):
    page = browse("/overview?run=learnt")
    page.wait_for_function(SETTLED, arg=RUN_VIEWS["overview"].heading)
    page.evaluate(WATCH)
    subject = Subject.load(Runs(app_folder).open("learnt"))
    first, *others = [view for view in RUN_VIEWS.values() if view.fits(subject) and has_film(view, subject)]
    way = [*others, first, others[0], first]  # every view once, and from the first to the second and back
    shifts = [(view.name, shift(page, view)) for view in way]
    assert all(moved < MOST for _, moved in shifts), shifts
