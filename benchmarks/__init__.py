"""Speed, both sides in one run."""

import explorer  # noqa: F401  (before torch: it says how threads wait)
