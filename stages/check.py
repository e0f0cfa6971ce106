"""Check params.yaml before DVC puts any of it into a command or a path."""

from stages.command import PARAMS, ParamsFile, application, one_line_errors


def check(params: ParamsFile = PARAMS) -> None:
    """Check params.yaml and leave a file that every other stage depends on.

    A second one lists the checkpoints to start from, so that their folder is there without any.
    """
    with one_line_errors():
        from pruning.facts import write_json
        from stages.files import CHECKED, GIVEN
        from stages.params import read

        study = read(params)
        GIVEN.mkdir(parents=True, exist_ok=True)
        write_json(CHECKED, {"checked": params.name})
        write_json(GIVEN / "list.json", [each.model_dump() for each in study.checkpoints])


app = application(check)

if __name__ == "__main__":
    app()
