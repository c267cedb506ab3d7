"""The weights themselves."""

from explorer.pages import shared
from explorer.views import weights
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    shared.show(shared.viewed(weights.film))
