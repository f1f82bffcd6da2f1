"""crds/ is what the models say."""

from pathlib import Path

from lull.api.crd import write


def test_the_committed_crds_are_what_the_models_say(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "crds"
    for path in write(tmp_path):
        assert (committed / path.name).read_text() == path.read_text(), "run `make generate`"
