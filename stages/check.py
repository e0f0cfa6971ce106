"""Check params.yaml before DVC puts any of it into a command or a path."""

from stages.command import PARAMS, ParamsFile, application, one_line_errors


def check(params: ParamsFile = PARAMS) -> None:
    """Check params.yaml and leave a file that every other stage depends on."""
    with one_line_errors():
        from pruning.facts import write_json
        from stages.files import CHECKED
        from stages.params import read

        read(params)
        CHECKED.parent.mkdir(parents=True, exist_ok=True)
        write_json(CHECKED, {"checked": params.name})


app = application(check)

if __name__ == "__main__":
    app()
