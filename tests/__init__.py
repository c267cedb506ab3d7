"""The tests. While they run, array shapes and types in annotations are checked at each call."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where a float is expected an int will do, as PEP 484 says
install_import_hook(["explorer.model", "explorer.analysis", "explorer.film"], "tests.check")
