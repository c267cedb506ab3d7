"""Losses as the timeline, one example beside it."""

from explorer.pages import shared
from explorer.views import phase_changes
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    text = shared.example_input(subject).text
    shared.show(shared.viewed(phase_changes.film, text))
